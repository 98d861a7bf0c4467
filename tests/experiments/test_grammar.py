"""What is spelled in Hydra's grammar is read back as the same value, whatever is in it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import assignment

texts = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=20)
keys = st.from_regex(r"[a-z_][a-z0-9_./-]{0,8}", fullmatch=True).filter(
    lambda key: key not in ("null", "true", "false", "inf", "nan")
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(values)
@example("it's")
@example("a,b=[c] (d) {e} 'f' \"g\" \\")
@example("\\'")
@example("null")
@example("1e-3")
@example("")
@example({"q": 85, "long name": [None, "*[ab]"]})
def test_a_value_comes_back(value: Any) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([assignment("x", value)])
    assert parsed.value() == value and type(parsed.value()) is type(value)


@pytest.mark.parametrize(
    "folder", ["ettin (copy)", "lr=1e-3", "a,b", "it's", "[v2]", "日本", "50% off", "$x", "${x}", "a: {b}", "tail\\"]
)
def test_a_folder_of_any_name_is_handed_to_the_analysis(folder: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        config = compose("report", [assignment("runs", tmp_path / folder), "out=x"])
    assert config.runs == str(tmp_path / folder)
