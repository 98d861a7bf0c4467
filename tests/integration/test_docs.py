"""The documentation is true: links lead somewhere, every page is reachable, and what a page names is there."""

import re
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.requests.compose import to_plain
from ettin_core.studies.grid import StudyRequest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def links(page: Path) -> list[Path]:
    """The files that a page links to."""
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    return [(page.parent / target).resolve() for target in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_is_reachable_from_the_index() -> None:
    seen, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += links(page)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


def test_what_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    places = re.findall(r"`([\w/]+\.py): (\w+)`", text)
    assert len(places) >= 10
    step = text[text.index("## One training step") : text.index("## Where a number comes from")]
    assert 4 <= len({file for file, _ in re.findall(r"`([\w/]+\.py): (\w+)`", step)}) <= 8
    for file, name in places:
        assert re.search(rf"^(def|class) {name}\b|^{name} ?[:=]", (ROOT / file).read_text(), re.M), (file, name)
    tree = text[text.index("ettin_core/\n") : text.index("tests/ ")]
    packages = {path.name for path in (ROOT / "ettin_core").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^  (\w+)/", tree, re.M)) == packages


def test_every_invariant_names_a_test() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / "concepts.md").read_text())
    assert len(named) == 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def example(page: str, language: str) -> str:
    """The first example of a page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    assert found is not None
    return found[1]


def test_the_example_of_a_study_composes(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "my_masking.yaml").write_text(example("extend/study.md", "yaml"))
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        config = compose("study", ["study=my_masking", f"hydra.searchpath=[file://{tmp_path}]"])
        request = build(StudyRequest, to_plain(config))
    assert request.name == "my_masking" and request.axes["mask_rate"] == (0.15, 0.3)


def test_the_example_of_a_direction_is_one() -> None:
    before = set(DIRECTIONS)
    exec(example("extend/direction.md", "python"), {})
    [name] = set(DIRECTIONS) - before
    direction = DIRECTIONS.pop(name)
    assert direction.name == name
    assert direction.prefix_length(np.array([8, 3]), np.zeros(2, np.uint64)).tolist() == [2, 0]


def test_the_readme_is_short_and_shows_no_unknown_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    commands = set(re.findall(r"python -m experiments\.(\w+)", readme))
    assert commands and all((ROOT / "experiments" / f"{name}.py").exists() for name in commands)
