"""The cells of studies: which there are, their runs and contracts, and the errors before anything is trained."""

import json
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.pairs.audit import NOT_MATCHED
from ettin_core.planning.matching import TOLERANCE, Ruler
from ettin_core.requests.compose import composer, configurations
from ettin_core.studies.grid import FORECAST_TOLERANCE, Cell, StudyRequest, audits, cells_of, pairs_of, plan_runs
from ettin_core.training.config import RunConfig
from tests.runs import tiny_run

NAMES = CONFIGURATIONS.parent / "tests" / "golden" / "names.json"
NOT_PLANNED = (
    "grid",
    "smoke",
    "evidence",
    "factorial_text",
    "tuned_rates",
)  # without axes, for tests, on a folder of text
STUDIES = {  # cells of one seed
    "biphasic": 5,
    "conversion_frontier": 14,
    "demo": 4,
    "density": 3,
    "factorial": 5,
    "masking_ratio": 6,
    "merging": 4,
    "published": 4,
    "quantisation": 2,
    "retrieval_kinds": 2,
    "rulers": 4,
    "seeds": 12,
    "tuning": 3,
}


@pytest.fixture(scope="module")
def study() -> Callable[..., dict[str, Cell]]:
    """`study(*overrides)`: the cells of a command line."""

    def cells(*overrides: str) -> dict[str, Cell]:
        compose = composer("study", StudyRequest)
        with configurations():
            return cells_of(compose(overrides), list(overrides), compose)

    return cells


def planned(cells: dict[str, Cell]) -> dict[str, RunConfig]:
    """Their runs on corpora that are not there."""
    return plan_runs(cells, lambda data: None)


@pytest.mark.parametrize(
    ("name", "scale"), [*((name, "laptop") for name in STUDIES), ("factorial", "published"), ("rulers", "published")]
)
def test_every_study_is_planned_and_matched(name: str, scale: str, study: Callable[..., dict[str, Cell]]) -> None:
    one_seed = [] if name in ("demo", "published", "seeds") else ["axes.seed=[21]"]
    cells = study(f"study={name}", *one_seed, *(["scale=published", "size=150m"] if scale == "published" else []))
    runs = planned(cells)
    assert len(cells) == len({run.name for run in runs.values()}) == STUDIES[name]
    if scale == "laptop":
        committed = json.loads(NAMES.read_text())[f"study {name}"]
        assert {cell: run.name.rsplit("-", 1)[1] for cell, run in runs.items()} == committed, "docs/identity.md"
    verdicts = audits(cells, runs)
    assert len(verdicts) == len(pairs_of(cells)) > 0
    assert [item.violations for item in verdicts.values() if item.verdict == NOT_MATCHED] == []
    tokens = {cell.request.recipe.tokens for cell in cells.values()}
    assert tokens == {2e12} if scale == "published" else max(tokens) < 4e6


def test_every_study_is_documented() -> None:
    text = (CONFIGURATIONS.parent / "docs" / "commands.md").read_text()
    files = {path.stem for path in (CONFIGURATIONS / "study").glob("*.yaml")}
    assert files == {*STUDIES, *NOT_PLANNED} and all(f"`{name}`" in text for name in files - {"smoke"})


def test_cells_are_the_product_but_for_what_is_left_out(study: Callable[..., dict[str, Cell]]) -> None:
    cells = study("study=factorial", "axes.seed=[1,2]")
    assert list(cells) == [
        f"{direction} {objective} s{seed}"
        for direction in ("bidirectional", "causal")
        for objective in ("mlm", "mntp", "clm")
        for seed in (1, 2)
        if (direction, objective) != ("bidirectional", "clm")
    ]
    cell = cells["causal mntp s2"]
    member = cell.request.member
    assert (member.name, member.direction, member.objective.name) == ("causal-mntp", "causal", "mntp")
    assert cell.request.seeds.masks == 2 and cell.axes == {"direction": "causal", "objective": "mntp", "seed": 2}


def test_a_knob_sets_all_its_keys_and_the_command_line_holds_for_all(study: Callable[..., dict[str, Cell]]) -> None:
    cells = study("study=masking_ratio", "precision=bf16", "axes={mask_rate:[0.15,0.4],seed:[21]}")
    runs = planned(cells)
    assert {name: [phase.mask_rate for phase in run.phases] for name, run in runs.items()} == {
        "mask_rate=0.15 s21": [0.15] * 3,
        "mask_rate=0.4 s21": [0.4] * 3,
    }
    assert {run.precision for run in runs.values()} == {"bf16"}


def test_conversions_belong_to_their_parents(study: Callable[..., dict[str, Cell]]) -> None:
    cells = study("study=conversion_frontier", "axes.seed=[21,22]")
    runs = planned(cells)
    for name, cell in cells.items():
        if cell.parent is None:
            continue
        parent = cells[cell.parent]
        assert parent.axes == {
            "member": {"dec-from-enc": "encoder", "enc-from-dec": "decoder"}[cell.axes["member"]],
            "seed": cell.axes["seed"],
        }
        assert runs[name].tokens == pytest.approx(cell.axes["budget"] * runs[cell.parent].tokens, rel=0.05)
        assert (
            runs[name].seeds.initialisation == cell.axes["seed"] and runs[name].seeds.order == cell.axes["seed"] + 189
        )
    assert sum(cell.parent is not None for cell in cells.values()) == 24


def test_studies_share_the_runs_that_they_have_in_common(study: Callable[..., dict[str, Cell]]) -> None:
    names = ("conversion_frontier", "biphasic")
    runs = [{run.name for run in planned(study(f"study={name}", "axes.seed=[21]")).values()} for name in names]
    assert len(runs[0] & runs[1]) == 1, "the encoder"


@pytest.mark.parametrize("ruler", ["loss_tokens", "flops", "seconds"])
def test_a_ruler_makes_members_equally_long(ruler: str, study: Callable[..., dict[str, Cell]]) -> None:
    rates = {"encoder": 9000.0, "decoder": 7000.0}
    cells = study(
        "study=demo", "pair@contracts.pair=ruler", f"match_on={ruler}", *(f"+rates.{m}={r}" for m, r in rates.items())
    )
    runs = planned(cells)
    measured = Ruler(ruler, rates).measure
    assert measured(runs["decoder"]) == pytest.approx(measured(runs["encoder"]), rel=TOLERANCE)
    assert abs(runs["decoder"].tokens / runs["encoder"].tokens - 1) > 0.05, "the tokens had to give way"
    required = pairs_of(cells)[0][0].within
    assert required == ({} if ruler == "seconds" else {ruler: FORECAST_TOLERANCE})
    assert audits(cells, runs)["encoder", "decoder"].verdict != NOT_MATCHED


def test_rulers_look_at_the_corpus_where_there_is_one(corpus: Corpus) -> None:
    encoder, decoder = tiny_run(corpus, "encoder"), tiny_run(corpus, "decoder")
    encoder = replace(encoder, recipe=replace(encoder.recipe, tokens=200_000))
    for ruler in ("loss_tokens", "flops"):
        matched = Ruler(ruler, {}, corpus).match(replace(decoder, recipe=encoder.recipe), encoder)
        measured = Ruler(ruler, {}, corpus).measure
        assert measured(matched) == pytest.approx(measured(encoder), rel=TOLERANCE)
    with pytest.raises(ValueError, match="match_on='loss_tokens' cannot be met: decoder is .* off encoder"):
        Ruler("loss_tokens", {}, corpus).match(decoder, tiny_run(corpus, "encoder"))


REFUSED = {
    "no axis": (["study=grid"], r"axes=\{\} is an empty study; give axes"),
    "an empty axis": (["study=demo", "axes.member=[]"], r"axes.member=\(\) has no level"),
    "a level twice": (["study=demo", "axes.member=[encoder,encoder]"], "names a level twice"),
    "an unknown key": (["study=demo", "+axes.sed=[1,2]"], "sed=1 is not a key of study; did you mean 'seed'"),
    "an unknown member": (
        ["study=grid", "+axes={member:[encoder,decodr]}"],
        "member='decodr' is not there; did you mean 'decoder'",
    ),
    "an axis that is set": (["study=demo", "member=decoder"], r"member='member' is an axis .* use 'axes.member="),
    "a leaking cell": (["study=factorial", "leave_out=[]"], "leaks under direction='bidirectional'.*or prefix"),
    "left out what is no level": (["study=factorial", "leave_out=[{seed: 9}]"], "leave_out.0.seed=9 is not a level"),
    "parents that are not there": (
        ["study=demo", "conversions.dec-from-enc.of.member=mixture"],
        "is not a level of an axis",
    ),
    "the same run twice": (["study=demo", "+axes.jobs=[1,2]"], "are the same run"),
    "an unknown ruler": (["study=demo", "match_on=steps"], "match_on='steps' is not a ruler"),
    "seconds without rates": (
        ["study=demo", "match_on=seconds"],
        "needs the rate of decoder|needs the rate of encoder",
    ),
    "too coarse": (
        ["study=demo", "match_on=loss_tokens", "recipe.phases.decay.batch_rows=1200", "data.documents=1500"],
        "match_on='loss_tokens' cannot be met|gives phase decay no step",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(case: str, study: Callable[..., dict[str, Cell]]) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as caught:
        planned(study(*overrides))
    assert "\n" not in str(caught.value)


def test_a_broken_contract_is_seen_before_training(study: Callable[..., dict[str, Cell]]) -> None:
    cells = study(
        "study=grid", "+knobs={rate:[optimizer.learning_rate]}", "+axes={member:[encoder,decoder],rate:[1e-3,2e-3]}"
    )
    broken = {pair for pair, item in audits(cells, planned(cells)).items() if item.verdict == NOT_MATCHED}
    assert broken == {("encoder rate=0.001", f"{member} rate=0.002") for member in ("encoder", "decoder")}


@pytest.mark.parametrize(
    ("axes", "levels"),
    [
        ("optimizer.clip_norm:[null,1.0]", [None, 1.0]),
        ('data.files:["a*","[ab]*"]', ["a*", "[ab]*"]),
        ('data.name:["a=b","c"]', ["a=b", "c"]),
        ('data.separator:[null,"\\n\\n"]', [None, "\\n\\n"]),
    ],
)
def test_a_level_is_the_value_that_was_typed(
    study: Callable[..., dict[str, Cell]], axes: str, levels: list[Any]
) -> None:
    cells = study("study=grid", "data=text", "data.path=x", f"+axes={{member:[encoder],{axes}}}")
    key = axes.partition(":")[0]
    values = [attrgetter(key)(cell.request) for cell in cells.values()]
    assert values == levels and len(cells) == 2
