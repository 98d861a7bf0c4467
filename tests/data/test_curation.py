"""The judge: language, the order of the steps, the shipped configurations, and real text."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
import zstandard

from ettin_core.data.curation import language
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.curation.curate import Curator
from ettin_core.data.curation.language import beginning, identify
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.strict_config import build

CONFIGURATIONS = Path(__file__).parents[2] / "conf" / "curation"
ENGLISH = "The ship left the harbour before dawn, and nobody on the quay had thought of waking the captain."
SENTENCES = {
    "en": ENGLISH,
    "de": "Das Schiff verließ den Hafen vor der Dämmerung, und niemand hatte daran gedacht, den Kapitän zu wecken.",
    "fr": "Le navire quitta le port avant l'aube, et personne sur le quai n'avait pensé à réveiller le capitaine.",
    "es": "El barco salió del puerto antes del amanecer y nadie en el muelle había pensado en despertar al capitán.",
    "fi": "Laiva lähti satamasta ennen aamunkoittoa, eikä kukaan laiturilla ollut muistanut herättää kapteenia.",
    "ru": "Корабль вышел из гавани до рассвета, и никто на причале не подумал разбудить капитана.",
    "el": "Το πλοίο έφυγε από το λιμάνι πριν την αυγή και κανείς δεν σκέφτηκε να ξυπνήσει τον καπετάνιο.",
    "zh": "天还没亮，船就离开了港口，码头上没有人想到要叫醒船长。",
}
GOOD_PAGE = "\n".join(
    [
        "The keeper of the lighthouse wrote down the weather every morning, and he never missed a day in forty years.",
        "When the lamp was made electric, nobody had the heart to tell him that a machine would now do it instead.",
        "So they kept a pencil on the sill, and somebody from the village came to be shown his neat columns of figures.",
    ]
)


@pytest.fixture
def langdetect() -> None:
    """Skips where the library is not installed."""
    pytest.importorskip("langdetect")


def shipped(name: str) -> CurationConfig:
    """A configuration of conf/curation."""
    return build(CurationConfig, yaml.safe_load((CONFIGURATIONS / f"{name}.yaml").read_text("utf-8")))


@pytest.mark.parametrize("code", SENTENCES)
def test_languages_are_distinguished(code: str, langdetect: None) -> None:
    language, probability = identify(SENTENCES[code])
    assert language == code and 0.8 < probability <= 1.0


@pytest.mark.parametrize("text", ["", "12 345, 678.90 - 11", " \n", "http://example.com/the/harbour"])
def test_text_without_words_has_no_language(text: str, langdetect: None) -> None:
    assert identify(text) == ("und", 0.0)


def test_only_the_beginning_counts_and_no_word_is_cut(langdetect: None) -> None:
    text = " ".join([ENGLISH] * 30)
    assert beginning(ENGLISH) == ENGLISH
    assert len(beginning(text)) <= language.CHARACTERS and text.startswith(beginning(text) + " ")
    assert beginning("x" * 5000) == "x" * language.CHARACTERS
    assert beginning("abc " * 499 + "abcd efg") == "abc " * 499 + "abcd"
    assert identify(beginning(text)) == identify(text + SENTENCES["ru"] * 100)


def test_a_document_is_judged_alike_whatever_came_before(langdetect: None) -> None:
    mixed = " ".join([SENTENCES["en"], SENTENCES["de"], SENTENCES["fr"]])
    first = identify(mixed)
    for sentence in SENTENCES.values():
        identify(sentence)
    assert identify(mixed) == first


def test_language_reasons(langdetect: None) -> None:
    curator = Curator(CurationConfig(language="en"))
    judged = [curator.judge(SENTENCES[code]).reason for code in ("en", "de", "zh")]
    assert judged == [None, "language.de", "language.zh"]
    assert curator.judge("12345").reason == "language.und"


@pytest.mark.parametrize("probability, reason", [(0.8, None), (0.800001, "language.uncertain")])
def test_the_right_language_must_be_probable(
    probability: float, reason: str | None, monkeypatch: pytest.MonkeyPatch, langdetect: None
) -> None:
    monkeypatch.setattr("ettin_core.data.curation.curate.identify", lambda text: ("en", 0.8))
    assert Curator(CurationConfig(language="en", language_probability=probability)).judge("x").reason == reason


def test_a_language_that_cannot_be_identified_is_refused(langdetect: None) -> None:
    with pytest.raises(UserError, match=r"data.curation.language='xx' is not a language.*en, "):
        Curator(CurationConfig(language="xx"))


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    language._factory.cache_clear()
    monkeypatch.setitem(sys.modules, "langdetect.detector_factory", None)
    with pytest.raises(UserError, match=r'language needs langdetect.*-e "\.\[curation\]"'):
        Curator(CurationConfig(language="en"))
    Curator(CurationConfig(rules=("c4",)))


def test_language_comes_first_and_sets_in_their_order(langdetect: None) -> None:
    bad = "Nur ein kurzes deutsches Wort steht hier {und} mehr nicht, ob es jemandem gefällt oder nicht"
    orders = [("c4", "gopher_quality"), ("gopher_quality", "c4")]
    reasons = [Curator(CurationConfig(rules=order)).judge(bad).reason for order in orders]
    assert reasons == ["c4.curly_bracket", "gopher_quality.too_few_words"]
    assert Curator(CurationConfig(rules=orders[0], language="en")).judge(bad).reason == "language.de"


def test_nothing_named_keeps_everything_as_it_is() -> None:
    verdict = Curator(CurationConfig()).judge(" \n{lorem ipsum}\r\n")
    assert (verdict.text, verdict.reason, verdict.lines_removed) == (" \n{lorem ipsum}\r\n", None, {})


def test_the_shipped_configurations(langdetect: None) -> None:
    assert shipped("none") == CurationConfig()
    assert shipped("light") == CurationConfig(rules=("gopher_quality",), exact_duplicates=True)
    web = shipped("web")
    assert set(web.rules) == {"gopher_quality", "gopher_repetition", "c4", "fineweb"}
    assert (web.language, web.exact_duplicates, web.near_duplicates) == ("en", True, 0.75)
    assert web.rules.index("fineweb") < web.rules.index("c4")


def test_every_shipped_configuration_names_every_key() -> None:
    keys = set(CurationConfig.__dataclass_fields__)
    assert {file.stem for file in CONFIGURATIONS.glob("*.yaml")} == {"none", "light", "web"}
    assert all(set(yaml.safe_load(file.read_text("utf-8"))) == keys for file in CONFIGURATIONS.glob("*.yaml"))


def test_a_good_page_passes_everything_and_loses_its_menu(langdetect: None) -> None:
    verdict = Curator(shipped("web")).judge(f"Home | Contact\n\n{GOOD_PAGE}\nShare this")
    assert (verdict.text, verdict.reason) == (GOOD_PAGE, None)
    assert verdict.lines_removed == {"c4.line_without_end_mark": 2}


def test_verdicts_are_the_same_in_every_process(langdetect: None) -> None:
    program = (
        "import sys\n"
        "from ettin_core.data.curation.config import CurationConfig\n"
        "from ettin_core.data.curation.curate import Curator\n"
        "from ettin_core.data.curation.language import identify\n"
        "config = CurationConfig(rules=('gopher_quality', 'gopher_repetition', 'fineweb', 'c4'), language='en')\n"
        "text = sys.argv[1]\n"
        "print(identify(text), Curator(config).judge(text), Curator(config).judge(text * 3))"
    )
    text = f"{GOOD_PAGE}\n{SENTENCES['de']}\nA menu"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, text],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1 and "gopher_repetition" in printed.pop()


def read(file: Path) -> list[str]:
    """The texts of a file of compressed JSON lines."""
    with file.open("rb") as stream:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8")
        return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "fineweb"])
def test_articles_that_people_chose_pass(name: str, real_data: Path) -> None:
    texts = read(real_data / "pretrain" / "wiki_featured.validation.jsonl.zst")
    curator = Curator(CurationConfig(rules=(name,)))
    kept = sum(curator.judge(text).reason is None for text in texts)
    assert len(texts) > 50 and kept >= 0.9 * len(texts)


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "fineweb", "c4"])
def test_shuffled_tables_and_menus_do_not_pass(name: str) -> None:
    menu = "\n".join(["Home", "# Log in", "1999", "{cart}", "Next page ..."] * 30)
    assert (Curator(CurationConfig(rules=(name,))).judge(menu).reason or "").startswith(name)
