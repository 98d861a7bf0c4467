"""What is typed on the command line is what is trained: mappings replace, a group takes one name, order counts."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import spell
from ettin_core.foundation.strict_config import build
from ettin_core.pairs.audit import audit
from ettin_core.requests.audit import AuditRequest
from ettin_core.requests.compose import composed, composer, to_plain
from ettin_core.requests.overrides import meant
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.grid import StudyRequest, cells_of, plan_runs
from experiments.search import Search, SearchRequest
from experiments.train import main

ENGLISH = ("data=open_english", "data.path=somewhere")
Told = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Told:
    """`command(*arguments)`: exit status and output of a dry run of experiments.train."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train", *arguments, "dry_run=true", "machine.tokens_per_second=1000"])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run


def asked(kind: Any, *overrides: str) -> Any:
    """A request, composed within a command."""
    name = {TrainRequest: "train", StudyRequest: "study", SearchRequest: "search", AuditRequest: "audit"}[kind]
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        return composed(name, kind, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1", "member=decoder", "seed=2", "recipe.phases.decay={share:0.3}", "size.num_layers=7"],
        ["+data.at_least={world:0.1}", "data.at_least.world=0.2", "data.documents=9", "++data.documents=8", "size=17m"],
        ["recipe.phases.decay.share=0.2", "~recipe.phases.extension", "recipe.phases.decay.share=0.4"],
        ["hydra.job.name=other", "seed=3"],
        ["optimizer=muon", "optimizer.learning_rate=1e-3", "precision=${oc.env:NO_SUCH_VARIABLE,bf16}"],
    ],
)
def test_a_request_is_what_hydra_composes_however_often(overrides: list[str]) -> None:
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        of_hydra = build(TrainRequest, to_plain(compose("train", meant(TrainRequest, overrides))))
        assert composed("train", TrainRequest, overrides) == of_hydra
        assert composed("train", TrainRequest, [*overrides, "seed=99"]).seed == 99
        assert composed("train", TrainRequest, overrides) == of_hydra, "values are set in a copy"


def test_a_file_that_is_edited_is_read_again(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CONFIGURATIONS, tmp_path / "conf"))
    (folder / "size" / ".#nano.yaml").symlink_to("nowhere")  # as an editor locks a file

    def layers() -> int:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return composed("train", TrainRequest, ["size=nano", "seed=4"]).size.num_layers

    before, file = layers(), folder / "size" / "nano.yaml"
    file.write_text(file.read_text().replace(f"num_layers: {before}", f"num_layers: {before + 3}"))
    assert layers() == before + 3


def test_a_mixture_replaces_the_files_and_the_dry_run_prints_it(command: Told) -> None:
    status, out = command(
        *ENGLISH, "data.mixtures.pretrain={wiki_featured: 1}", "data.mixtures.extension.wiki-q85=0.76"
    )
    assert status == 0
    mixtures = [line.split("mixture ")[1] for line in out.splitlines() if "mixture " in line]
    assert mixtures[0] == "wiki_featured 1"
    assert mixtures[1].startswith("wiki_featured-q85 0.1579, wiki-q85 0.5, books-q85 0.1776")
    assert mixtures[2].startswith("wiki_featured-q90 0.5, ")
    assert "mixture by size" in command("data=text", "data.path=somewhere")[1]


def test_a_swept_mixture_replaces_in_each_cell(command: Told) -> None:
    rest = ["data.mixtures.extension={curated: 1}", "data.mixtures.decay={curated: 2}"]
    status, out = command(
        "-m", "data=quality", "data.path=somewhere", "data.mixtures.pretrain={raw: 1},{curated: 1}", *rest
    )
    mixtures = [line.split("mixture ")[1] for line in out.splitlines() if "mixture " in line]
    assert (status, mixtures) == (0, ["raw 1", "curated 1", "curated 1", "curated 1", "curated 1", "curated 1"])


@pytest.mark.parametrize("arguments", [("member=[encoder,decoder]",), ("-m", "member=[encoder,decoder],prefix")])
def test_a_list_where_one_name_is_wanted_is_an_error(arguments: tuple[str, ...], command: Told) -> None:
    status, err = command(*arguments)
    assert status == 2 and "member=['encoder', 'decoder'] is a list where one name is wanted; give one of them; " in err
    assert "-m member=encoder,decoder makes a run of each" in err


def test_groups_with_a_package_take_one_name_too() -> None:
    for override in ("recipe@conversion=[smoke_conversion]", "study=[demo,seeds]", "pair@contracts.pair=[ruler,seeds]"):
        with pytest.raises(UserError, match="is a list where one name is wanted"):
            asked(StudyRequest, override)


def test_smallest_values_are_typed_as_the_comment_says() -> None:
    request = asked(TrainRequest, "data=text", "data.path=somewhere", "data.at_least={q: 85}")
    assert request.data.at_least == {"q": 85.0}
    more = asked(TrainRequest, "data=text", "data.path=x", "data.at_least={q: 85}", "+data.at_least={length: 3}")
    assert more.data.at_least == {"q": 85.0, "length": 3.0}


def test_mappings_of_a_study_replace() -> None:
    assert asked(StudyRequest, "study=demo", "conversions={}").conversions == {}
    request = asked(StudyRequest, "study=demo", "axes={seed: [1, 2]}", "conversions={}", "analysis={kind: cells}")
    assert request.axes == {"seed": (1, 2)} and request.analysis == {"kind": "cells"}
    conversions = asked(
        StudyRequest, "study=demo", "conversions.dec-from-enc={of: {}, axes: {budget: [0.1]}}"
    ).conversions
    assert (conversions["dec-from-enc"].of, conversions["dec-from-enc"].axes) == ({}, {"budget": (0.1,)})
    assert conversions["enc-from-dec"].of == {"member": "decoder"}


def test_settings_that_have_names_are_merged() -> None:
    request = asked(
        TrainRequest, "recipe.phases.decay={mask_rate: 0.2}", "checkpoint={keep_last: 3}", "seeds={order: 3}"
    )
    decay = request.recipe.phases["decay"]
    assert (decay.mask_rate, decay.context, decay.final_factor) == (0.2, 256, 0.04)
    assert (request.checkpoint.keep_last, request.checkpoint.every_steps) == (3, 100)
    assert (request.seeds.order, request.seeds.masks) == (3, 21)
    assert asked(TrainRequest, "recipe.phases.decay.share=0.15").recipe == asked(TrainRequest).recipe


REFUSED = {
    "no phases": (["recipe.phases={}"], r"recipe.phases=\{\} has no phase"),
    "a phase without a mixture": (
        [*ENGLISH, "data.mixtures={pretrain: {wiki: 1}}"],
        r"recipe.phases.extension.mixture=.* refers to data.mixtures.extension, which is not there",
    ),
    "a phase that there is not": (
        [*ENGLISH, "data.mixtures.pretrian={wiki: 1}"],
        "did you mean 'data.mixtures.pretrain'",
    ),
    "a part of what was replaced": (
        [*ENGLISH, "data.mixtures.pretrain={wiki: 1}", "data.mixtures.pretrain.books=1"],
        r"\+data.mixtures.pretrain.books=1 adds it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_replacement_leaves_out_is_missed(case: str) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(Exception, match=message):
        asked(TrainRequest, *overrides)


def test_the_order_of_phases_is_part_of_a_run() -> None:
    first = "{share:0.5,context:64,batch_rows:8,prefix:first}"
    last = "{share:0.5,context:64,batch_rows:8,prefix:last,mask_rate:0.5}"
    orders = [f"recipe.phases={{{order}}}" for order in (f"a:{first},b:{last}", f"b:{last},a:{first}")]
    requests = [asked(TrainRequest, order, "recipe.tokens=1e5") for order in orders]
    runs = [request.parts.planned(request.member, 2048, "none", "none") for request in requests]
    assert [[phase.name for phase in run.phases] for run in runs] == [["a", "b"], ["b", "a"]]
    assert runs[0].name != runs[1].name
    contract = asked(AuditRequest).pair
    assert audit(contract, *runs).violations == ["recipe.phases: ['a', 'b'] against ['b', 'a']"]


def test_what_the_model_has_is_reached_by_keys_of_its_size() -> None:
    keys = {"local_window": 9, "global_every": 1, "norm_epsilon": 1e-12}
    request = asked(TrainRequest, *(f"size.{key}={value}" for key, value in keys.items()))
    plain = asked(TrainRequest)
    models = [item.parts.planned(item.member, 2048, "none", "none") for item in (request, plain)]
    assert {key: getattr(models[0].model, key) for key in keys} == keys and models[0].name != models[1].name
    for override, message in (
        ("size.global_every=0", r"model.global_every=0 is not positive"),
        ("size.global_every=2", r"model.num_layers=4 leaves the last layer local .* use 5 layers"),
        ("size.local_window=0", r"model.local_window=0 is not positive"),
        ("size.norm_epsilon=0", r"model.norm_epsilon=0.0 is not between 0 and 1"),
    ):
        with pytest.raises(UserError, match=message):
            asked(TrainRequest, override).size.model(2048)


def test_levels_of_axes_are_values_of_any_kind() -> None:
    axes = "axes={recipe.phases.decay.mixture:[{world:1.0},null],optimizer.clip_norm:[null,1.0],member:[encoder]}"
    request = asked(StudyRequest, "study=grid", axes)
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        cells = cells_of(request, ["study=grid", axes], composer("study", StudyRequest))
    runs = plan_runs(cells, lambda data: None)
    assert {name: (run.phases[2].mixture, run.optimizer.clip_norm) for name, run in runs.items()} == {
        "recipe.phases.decay.mixture={world:1.0} optimizer.clip_norm=null encoder": ({"world": 1.0}, None),
        "recipe.phases.decay.mixture={world:1.0} optimizer.clip_norm=1.0 encoder": ({"world": 1.0}, 1.0),
        "recipe.phases.decay.mixture=null optimizer.clip_norm=null encoder": (None, None),
        "recipe.phases.decay.mixture=null optimizer.clip_norm=1.0 encoder": (None, 1.0),
    }


def test_choices_of_a_search_replace_too() -> None:
    space = "space=[{key: recipe.phases.decay.mixture, choices: [{wiki: 1}, {books: 2}]}]"
    overrides = [*ENGLISH, space, "members=[encoder]"]
    request = asked(SearchRequest, *overrides)
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        trial = Search(request, overrides).at("encoder", {"recipe.phases.decay.mixture": {"books": 2}})
    assert trial.recipe.phases["decay"].mixture == {"books": 2.0}


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 1e-05, "encoder", "17m", "null", "1e3", "", "it's a, b", "a\\", "x=y", "日本", [1, "x y", None]]
    + [{"wiki-q85": 1.0, "a b": {"c": "d:e"}, "f.g": []}, float("inf")],
)
def test_a_value_is_spelled_as_hydra_reads_it(value: object) -> None:
    read = OverridesParser.create().parse_override(f"key={spell(value)}").value()
    assert read == value and type(read) is type(value)


def test_what_is_not_a_mapping_is_left_as_typed() -> None:
    typed = [
        "-m",
        "member=encoder,decoder",
        "recipe.phases.decay.share=0.2",
        "~optimizer",
        "+data.at_least={q:1}",
        "x={",
    ]
    assert meant(TrainRequest, typed) == typed
