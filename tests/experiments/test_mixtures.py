"""The mixtures of the configurations: the published one as published, and the small one on real text through three phases."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from ettin_core.data.config import DataConfig
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.requests.compose import to_plain
from tests import processes

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "tests" / "data" / "fixtures" / "published_mixture.csv"
# The published table's names, and the source each became.
NAMES = {
    "CC News": "cc_news",
    "Starcoder": "starcoder",
    "Code_Repos": "code_repos",
    "CC Head": "cc_head",
    "DCLM": "dclm",
    "DCLM (Dolmino)": "dclm",
    "Open-Web-Math": "open_web_math",
    "Algebraic StackExchange": "algebraic_stack",
    "Math (Dolmino)": "math",
    "PeS2o": "pes2o",
    "Arxiv": "arxiv",
    "Reddit": "reddit",
    "StackExchange": "stackexchange",
    "StackExchange (Dolmino)": "stackexchange",
    "Textbooks": "textbooks",
    "Dolma Books": "books",
    "Wikipedia": "wikipedia",
    "Tulu Flan": "tulu_flan",
}
DRY = ("dry_run=true", "machine.tokens_per_second=1000")


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration of a training."""
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        return to_plain(compose(config_name="train", overrides=list(overrides)))


def test_the_published_mixture_is_the_published_one() -> None:
    rows = list(csv.DictReader(PUBLISHED.open()))
    config = composed("data=ettin", "data.path=somewhere")
    mixtures = config["data"]["mixtures"]
    for phase in ("pretrain", "extension", "decay"):
        expected = {
            f"{phase}-{NAMES[row['dataset']]}": float(row["tokens_B"])
            for row in rows
            if row["phase"] == phase and row["dataset"] != "TOTAL"
        }
        assert mixtures[phase] == expected
        total = next(float(row["tokens_B"]) for row in rows if row["phase"] == phase and row["dataset"] == "TOTAL")
        assert abs(sum(mixtures[phase].values()) - total) < 1.0, "the printed totals are rounded"
        assert config["recipe"]["phases"][phase]["mixture"] == mixtures[phase]
    assert set(build(DataConfig, config["data"]).source_configs()) == set().union(*mixtures.values())


def test_the_small_mixture_has_its_stated_shares() -> None:
    mixtures = composed("data=open_english", "data.path=somewhere")["data"]["mixtures"]
    assert {phase: round(sum(weights.values()), 9) for phase, weights in mixtures.items()} == dict.fromkeys(
        mixtures, 1.0
    )
    assert mixtures["pretrain"]["wiki"] == 0.25 and mixtures["decay"]["wiki_featured-q90"] == 0.5
    assert not any(name.endswith(("q85", "q90")) for name in mixtures["pretrain"])
    assert all(name.endswith("-q85") for name in mixtures["extension"])
    assert all(name.endswith("-q90") for name in mixtures["decay"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mixtures.pretrain.wiki=0", "mixtures.pretrain.wiki=0.*not positive"),
        ("data.mixtures.pretrain.wiki=-1", "mixtures.pretrain.wiki=-1.*not positive"),
        ("+data.mixtures.decay.wikis=1", "mixtures.decay='wikis' is not a source"),
        ("+data.sources.wiki.fiels=x", "data.sources.wiki.fiels.*did you mean 'data.sources.wiki.files'"),
    ],
)
def test_a_wrong_mixture_is_an_error_before_anything_is_read(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(DataConfig, composed("data=open_english", "data.path=nowhere", override)["data"])


@pytest.mark.parametrize("source", ["raw", "curated"])
def test_data_quality_is_an_axis(source: str) -> None:
    phases = [f"data.mixtures.{phase}={{{source}: 1}}" for phase in ("pretrain", "extension", "decay")]
    data = build(DataConfig, composed("data=quality", "data.path=somewhere", *phases)["data"])
    sources = data.source_configs()
    assert sources["raw"].curation.is_off and sources["curated"].curation.near_duplicates == 0.75
    assert sources["raw"].path == sources["curated"].path and data.mixtures["decay"] == {source: 1.0}


def test_three_phases_draw_from_three_mixtures_of_real_text(tmp_path: Path, real_data: Path) -> None:
    options = ["data=open_english", f"data.path={real_data / 'pretrain'}", "data.documents=12", "data.vocab_size=1024"]
    options += ["recipe=smoke", "recipe.max_epochs=100", "size=nano"]
    ended = processes.run(tmp_path, "experiments.train", *options, *DRY)
    assert ended.returncode == 0, ended.stderr
    done = processes.run(tmp_path, "experiments.train", *options)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    phases = json.loads((folder / "data_order.json").read_text())["phases"]
    assert set(phases["pretrain"]["repeats"]) == set(composed(*options)["data"]["mixtures"]["pretrain"])
    assert set(phases["decay"]["repeats"]) == set(composed(*options)["data"]["mixtures"]["decay"])
    assert all(passes > 0 for phase in phases.values() for passes in phase["repeats"].values())


def test_a_source_too_small_for_its_share_is_an_error_by_name(tmp_path: Path, real_data: Path) -> None:
    options = ["data=open_english", f"data.path={real_data / 'pretrain'}", "data.documents=2", "data.vocab_size=1024"]
    assert processes.run(tmp_path, "experiments.prepare", *options).returncode == 0
    ended = processes.run(
        tmp_path,
        "experiments.train",
        *options,
        "recipe=smoke",
        "recipe.tokens=1e6",
        "dry_run=true",
        "machine.tokens_per_second=1000",
    )
    assert ended.returncode == 2
    assert "recipe.max_epochs" in ended.stderr and "over source '" in ended.stderr
