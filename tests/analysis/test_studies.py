"""Each kind of analysis on a study of known numbers: what it finds, what it leaves out, what raises an error."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.kinds import KINDS, analyse
from analysis.load import load
from analysis.report import build
from ettin_core.records.folders import RunFolder

Scores = dict[tuple[str, str, str], float]
LEFT_TO_RIGHT, PSEUDO = "minimal_pairs.left_to_right", "minimal_pairs.pseudo_likelihood"
FRONTIER: dict[str, Any] = {
    "kind": "frontier",
    "native": {"enc-from-dec": "encoder", "dec-from-enc": "decoder"},
    "x": "budget",
    "group": ["member", "adapter", "start"],
}


def scores(objective: str, skill: float) -> Scores:
    """What an evaluation of a model of the objective has."""
    held: Scores = {("heldout_clm", "world", "bits_per_token"): 4 - skill}
    if objective != "clm":
        held = {("heldout_mlm", "world", "loss"): 3 - skill, (PSEUDO, "all", "accuracy"): skill}
    return {**held, (LEFT_TO_RIGHT, "all", "accuracy"): skill - 0.1 * (objective != "clm")}


def crossed(study: Any, missing: tuple[str, str, int] | None = None) -> None:
    """Two directions by two objectives plus bidirectional MLM, three seeds: direction +0.08, interaction -0.1."""
    generator = np.random.default_rng(0)
    for direction, objectives in (("bidirectional", ["mlm"]), ("causal", ["mlm", "clm"]), ("prefix", ["mlm", "clm"])):
        for objective in objectives:
            for seed in (21, 22, 23):
                skill = 0.6 + 0.13 * (direction == "prefix") - 0.1 * (direction == "prefix") * (objective == "clm")
                skill += 0.2 * (direction == "bidirectional") + 0.02 * (seed - 22) + generator.normal(0, 0.002)
                axes = {"direction": direction, "objective": objective, "seed": seed}
                values = None if (direction, objective, seed) == missing else scores(objective, skill)
                study.cell(axes, values, objective)


def frontier(study: Any, seeds: tuple[int, ...] = (1, 2, 3), items: bool = False, native: bool = True) -> None:
    """Both conversions at five budgets: the decoder's gap closes at 0.1, the encoder's stays."""
    generator = np.random.default_rng(0)
    draws = generator.random(400)

    def cell(axes: dict[str, Any], objective: str, skill: float, **more: Any) -> str:
        hits = {"all": (draws < skill).astype(float)} if items else None
        held = {(LEFT_TO_RIGHT, "all", "accuracy"): float(hits["all"].mean())} if hits else scores(objective, skill)
        return study.cell(axes, held, objective, items=hits, **more)

    for seed in seeds:
        parents = {
            member: cell({"member": member, "seed": seed}, objective, 0.7)
            for member, objective in (("encoder", "mlm"), ("decoder", "clm"))
            if native or member == "encoder"
        }
        for budget in (0.01, 0.03, 0.1, 0.3, 0.5):
            for member, objective, gap in (
                ("dec-from-enc", "clm", -0.05 * np.log(budget / 0.1)),
                ("enc-from-dec", "mlm", 0.3 - 0.01 * np.log(budget)),
            ):
                axes = {"member": member, "seed": seed, "budget": budget, "adapter": "none", "start": "after_decay"}
                parent = parents.get("encoder" if member == "dec-from-enc" else "decoder")
                noise = 0.0 if items else generator.normal(0, 0.003)
                cell(axes, objective, 0.7 - gap + noise, parent=parent, flops=1e12 * budget / 2)


def data_of(study: Any, path: Path, name: str) -> pd.DataFrame:
    """The numbers behind a table of the analysis."""
    tables = {item.table.name: item.data for item in analyse(load(study.root, path)).tables}
    return tables[name]


def test_effects_are_recovered_in_every_balanced_part(synthetic: Any) -> None:
    crossed(synthetic)
    path = synthetic.study(kind="effects", factors=["direction", "objective"])
    effects = data_of(synthetic, path, "effects").set_index(["protocol", "term"])
    of_way = effects.loc["minimal_pairs.own_scoring"]
    direction = of_way.loc["Direction: prefix − causal (mean over mlm, clm)"]
    assert direction["low"] <= 0.08 <= direction["high"] and direction["words"] == "prefix better"
    assert direction["freedom"] == 2 and direction["repetitions"] == 3
    interaction = of_way.loc["Interaction: prefix − causal with clm, less the same with mlm"]
    assert interaction["low"] <= -0.1 <= interaction["high"] and interaction["words"] == "interaction"
    alone = of_way.loc["Direction: causal − bidirectional (all with mlm)"]
    assert alone["low"] <= -0.2 <= alone["high"] and alone["words"] == "bidirectional better"
    ruler = effects.loc[LEFT_TO_RIGHT].loc["Objective: clm − mlm (mean over causal, prefix)"]
    assert ruler["low"] <= 0.05 <= ruler["high"]


def test_what_is_not_balanced_is_left_out_and_named(synthetic: Any) -> None:
    crossed(synthetic, missing=("prefix", "clm", 23))
    path = synthetic.study(kind="effects", factors=["direction", "objective"])
    table = analyse(load(synthetic.root, path)).tables[0].table
    lost = [note for note in table.notes if note.startswith("Left out")]
    assert lost == [
        "Left out (seed 23 lacks another cell): direction=causal objective=clm seed=23.",
        "Left out (missing run): direction=prefix objective=clm seed=23.",
    ]
    effects = data_of(synthetic, path, "effects").set_index(["protocol", "term"])
    assert set(effects.loc["heldout_mlm"]["repetitions"]) == {3}  # needs no clm, so it loses nothing
    crossed_in_full = effects.loc["minimal_pairs.own_scoring"].filter(like="mean over", axis=0)
    assert set(crossed_in_full["repetitions"]) == {2}


def test_one_seed_has_effects_without_intervals(synthetic: Any) -> None:
    for direction in ("bidirectional", "causal"):
        for objective in ("mlm", "mntp"):
            synthetic.cell({"direction": direction, "objective": objective}, scores(objective, 0.5), objective)
    effects = data_of(synthetic, synthetic.study(kind="effects", factors=["direction", "objective"]), "effects")
    assert effects["low"].isna().all() and set(effects["words"]) == {"one repetition: no error term"}


def test_the_best_level_of_a_curve_and_whether_it_is_told_apart(synthetic: Any) -> None:
    generator = np.random.default_rng(0)
    for rate in (0.15, 0.3, 0.5, 0.8):
        for seed in (1, 2, 3, 4):
            clear, level = 0.9 - (rate - 0.3) ** 2, 0.5 + generator.normal(0, 0.02)
            held = {("a", "t", "accuracy"): clear + generator.normal(0, 1e-4), ("b", "t", "accuracy"): level}
            synthetic.cell({"mask_rate": rate, "seed": seed}, held)
    synthetic.cell({"baseline": "none", "seed": 1}, {("a", "t", "accuracy"): 0.1})
    path = synthetic.study(kind="curve", x="mask_rate")
    table = analyse(load(synthetic.root, path)).tables[0].table
    best = data_of(synthetic, path, "best_levels").set_index("protocol")
    assert best.loc["a", "best"] == 0.3 and best.loc["a", "words"] == "distinguishable"
    assert best.loc["b", "words"].startswith("not distinguishable")
    assert table.notes[0] == "Left out, without a level of mask_rate: baseline=none seed=1."


def test_the_frontier_finds_the_planted_crossing_and_says_where_there_is_none(synthetic: Any) -> None:
    frontier(synthetic)
    path = synthetic.study(**FRONTIER)
    crossings = data_of(synthetic, path, "crossings").set_index(["curve", "protocol"])
    closed = crossings.loc[("dec-from-enc", "heldout_clm")]
    assert closed["low"] <= 0.1 <= closed["high"] and closed["words"].startswith("catches up at 0.1")
    assert (
        crossings.loc[("enc-from-dec", "heldout_mlm"), "words"] == "no crossing within 0.01 to 0.5: behind throughout"
    )
    gaps = data_of(synthetic, path, "gaps").set_index(["curve", "protocol", "level"])
    gap = gaps.loc[("dec-from-enc", "heldout_clm", 0.01)]
    assert gap["low"] <= 0.05 * np.log(10) <= gap["high"] and gap["over"] == "3 seeds"
    on_flops = {item.table.name: item.data for item in analyse(load(synthetic.root, path, "flops")).tables}["gaps"]
    assert on_flops["x"].to_numpy() == pytest.approx(on_flops["level"].to_numpy() / 2)


def test_one_seed_is_paired_by_item_and_says_so(synthetic: Any) -> None:
    frontier(synthetic, seeds=(1,), items=True)
    path = synthetic.study(**FRONTIER)
    gaps = data_of(synthetic, path, "gaps")
    assert set(gaps["over"]) == {"items"} and gaps["low"].notna().all()
    closed = data_of(synthetic, path, "crossings").set_index("curve").loc["dec-from-enc"]
    assert closed["over"] == "items" and closed["low"] <= 0.1 <= closed["high"]


def test_a_conversion_without_its_native_is_left_out_and_named(synthetic: Any) -> None:
    frontier(synthetic, seeds=(1, 2), native=False)
    synthetic.cell({"member": "decoder", "seed": 1}, None)
    findings = analyse(load(synthetic.root, synthetic.study(**FRONTIER)))
    notes = [note for note in findings.tables[0].table.notes if note.startswith("Left out")]
    assert len(notes) == 1 and "its native member is missing" in notes[0] and notes[0].count("dec-from-enc") == 10
    assert set(findings.tables[1].data["member"]) == {"enc-from-dec"}  # type: ignore[index]


def test_the_labels_of_a_logarithmic_axis_do_not_touch(synthetic: Any) -> None:
    for rate in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8):
        for seed in (1, 2):
            synthetic.cell({"mask_rate": rate, "seed": seed}, {("a", "t", "accuracy"): rate * seed})
    (figure,) = analyse(load(synthetic.root, synthetic.study(kind="curve", x="mask_rate"))).figures
    figure.figure.canvas.draw()
    (axis,) = figure.figure.axes
    ticks = axis.get_xticklabels(which="both")
    shown = [tick for tick in ticks if tick.get_text() and 0.1 <= tick.get_position()[0] <= 0.8]
    assert [tick.get_text() for tick in shown] == ["0.1", "0.2", "0.5"]
    boxes = [tick.get_window_extent() for tick in shown]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_cells_have_the_spread_of_runs(synthetic: Any) -> None:
    for seed, value in enumerate((0.70, 0.74, 0.72)):
        synthetic.cell({"member": "encoder", "seed": seed}, {("a", "t", "accuracy"): value})
    synthetic.cell({"member": "decoder", "seed": 0}, None)
    cells = data_of(synthetic, synthetic.study(kind="cells"), "cells").set_index("member")
    encoder = cells.loc["encoder"]
    assert encoder["value"] == pytest.approx(0.72) and encoder["deviation"] == pytest.approx(0.02)
    assert encoder["runs"] == 3 and 0.05 < encoder["detectable"] < 0.07
    assert cells.loc["decoder", "hole"] == "missing run" and np.isnan(cells.loc["decoder", "value"])


def test_cells_are_compared_with_a_base_paired_by_seed(synthetic: Any) -> None:
    scores = {"encoder": (0.70, 0.74, 0.72), "mixture": (0.75, 0.79, 0.78), "decoder": (0.71,)}
    losses = {"encoder": (1.0, 1.1, 1.2), "mixture": (1.1, 1.0, 1.2), "decoder": (0.9,)}
    for member, of_member in scores.items():
        for seed, value in enumerate(of_member):
            measured = {("a", "t", "accuracy"): value, ("a", "t", "loss"): losses[member][seed]}
            synthetic.cell({"member": member, "seed": seed}, measured)
    path = synthetic.study(kind="cells", base="encoder")
    differences = data_of(synthetic, path, "differences").set_index(["left", "metric"])
    better, same = differences.loc[("mixture", "accuracy")], differences.loc[("mixture", "loss")]
    test = stats.ttest_rel(scores["mixture"], scores["encoder"])
    assert better["value"] == pytest.approx(0.16 / 3) and better["p"] == pytest.approx(test.pvalue)
    low, high = test.confidence_interval()
    assert (better["low"], better["high"]) == pytest.approx((low, high))
    assert better["p_corrected"] == pytest.approx(2 * test.pvalue) and better["words"] == "mixture better"
    assert same["value"] == pytest.approx(0.0) and same["words"] == "not distinguishable"
    alone = differences.loc[("decoder", "accuracy")]
    assert alone["value"] == pytest.approx(0.01) and alone["repetitions"] == 1 and "no error term" in alone["words"]
    assert "encoder" not in differences.index.get_level_values("left")


def test_the_winner_may_depend_on_the_ruler(synthetic: Any) -> None:
    key = ("a", "t", "accuracy")
    for seed in (1, 2, 3):
        wobble = 0.001 * seed
        synthetic.cell(
            {"member": "cheap", "seed": seed}, {key: 0.7 + wobble}, flops=0.5e12, earlier={"step50": {key: 0.4}}
        )
        synthetic.cell({"member": "dear", "seed": seed}, {key: 0.8}, earlier={"step50": {key: 0.5}})
        synthetic.cell({"member": "other", "seed": seed}, {key: 0.9}, "clm")
    table = analyse(load(synthetic.root, synthetic.study(kind="rulers"))).tables[0]
    assert table.data is not None
    compared = table.data.set_index(["left", "right", "protocol"])
    pair = compared.loc[("cheap", "dear", "a")]
    assert pair["tokens_words"] == "dear" and pair["flops_words"] == "cheap" and pair["depends"] == "yes"
    assert pair["flops"] == pytest.approx(0.702 - 0.5)
    assert (
        compared.loc[("cheap", "dear", "training"), "flops_words"] == "cannot be told"
    )  # three logs without a difference
    assert compared.loc[("cheap", "dear", "training"), "flops"] < 0
    assert compared.loc[("cheap", "other", "training"), "tokens_words"] == "not comparable"
    assert compared.loc[("cheap", "other", "a"), "tokens_words"] == "other"


def test_the_report_prints_the_verdict_under_every_comparison_on_any_ruler(synthetic: Any, tmp_path: Path) -> None:
    frontier(synthetic, seeds=(1, 2))
    path = synthetic.study(**FRONTIER)
    build(synthetic.root, tmp_path / "out", path, "flops")
    out = {file.name: file for file in (tmp_path / "out").iterdir()}
    for table in ("crossings", "gaps", "cells", "rulers"):
        assert "matched except: direction" in out[f"{table}.md"].read_text()
        assert out[f"{table}.tex"].exists() and out[f"{table}.csv"].exists()
    captions = [figure["caption"] for figure in json.loads(out["report.json"].read_text())["figures"]]
    assert len(captions) == 2 and all("matched except: direction" in caption for caption in captions)
    assert "training loss against flops" in captions[1].lower() and {"frontier.png", "frontier.pdf", "loss.png"} <= set(
        out
    )
    page = out["index.html"].read_text()
    assert "It matters." in page and "pair of runs compared, matched in full: they differ only in direction" in page
    assert "result@crossing/dec-from-enc/heldout_clm/world/bits_per_token" in out["numbers.tex"].read_text()


def test_every_kind_reports_a_study_of_which_only_one_run_is_complete(synthetic: Any, tmp_path: Path) -> None:
    for member in ("encoder", "enc-from-dec"):
        for seed in (1, 2):
            axes = {"member": member, "objective": "mlm", "seed": seed}
            axes |= {"budget": 0.1} if member == "enc-from-dec" else {}
            synthetic.cell(axes, scores("mlm", 0.5) if (member, seed) == ("encoder", 1) else None)
    chosen: dict[str, dict[str, Any]] = {
        "effects": {"factors": ["member", "objective"]},
        "curve": {"x": "budget"},
        "frontier": {"native": {"enc-from-dec": "encoder"}},
    }
    for kind in KINDS:
        files = build(synthetic.root, tmp_path / kind, synthetic.study(kind=kind, **chosen.get(kind, {})))
        assert {"index.html", "numbers.tex"} <= {file.name for file in files if file.stat().st_size}, kind


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ({"kind": "effect"}, "analysis.kind='effect' is no kind of analysis; did you mean 'effects'"),
        ({"kind": "cells", "colour": 1}, "analysis.colour=1 means nothing to cells; use one of block, base."),
        ({"kind": "effects"}, "analysis.factors=null is needed by effects"),
        (
            {"kind": "effects", "factors": ["direction", "size"]},
            "analysis.factors='size' is not an axis .* direction, objec",
        ),
        ({"kind": "effects", "factors": ["direction"]}, "analysis.factors=.* are not two axes"),
        ({"kind": "cells", "base": "prefix"}, "analysis.base='prefix' is not a cell of the study; use one of "),
        ({"kind": "cells", "block": "order"}, "analysis.block='order' is not an axis"),
        (
            {"kind": "curve", "x": "direction"},
            "analysis.x='direction' has the level 'bidirectional', which is not a number",
        ),
        ({"kind": "curve", "x": "seed", "block": "objective"}, "do not tell .* apart"),
    ],
)
def test_what_a_study_cannot_ask_for_is_told_in_one_line(
    synthetic: Any, analysis: dict[str, Any], message: str
) -> None:
    for direction in ("bidirectional", "causal"):
        synthetic.cell({"direction": direction, "objective": "mlm", "seed": 1}, scores("mlm", 0.5))
    with pytest.raises(ValueError, match=message) as error:
        analyse(load(synthetic.root, synthetic.study(**analysis)))
    assert "\n" not in str(error.value)


def test_unknown_members_rulers_and_twin_cells_are_errors(synthetic: Any) -> None:
    frontier(synthetic, seeds=(1,))
    with pytest.raises(
        ValueError, match="analysis.native='gru' is not a member of the study's cells; use one of encoder"
    ):
        analyse(load(synthetic.root, synthetic.study(**(FRONTIER | {"native": {"gru": "encoder"}}))))
    with pytest.raises(ValueError, match="ruler='joules' is not a ruler; use one of tokens, loss_tokens"):
        load(synthetic.root, synthetic.study(**FRONTIER), "joules")
    synthetic.cells.append({**synthetic.cells[0], "name": "twin"})
    with pytest.raises(ValueError, match="agree on every axis"):
        analyse(load(synthetic.root, synthetic.study(**FRONTIER)))


def test_a_run_may_be_several_cells_and_a_pair_study_may_have_cells(synthetic: Any, tmp_path: Path) -> None:
    run = synthetic.cell({"varied": "order", "seed": 1}, scores("mlm", 0.5))
    synthetic.cells.append({"name": "again", "run": run, "axes": {"varied": "masks", "seed": 1}, "parent": None})
    cells = data_of(synthetic, synthetic.study(kind="cells"), "cells")
    assert set(cells["member"]) == {"order", "masks"} and cells["value"].notna().all()
    path = synthetic.study(kind="pair")
    build(synthetic.root, tmp_path / "out", path)
    assert load(synthetic.root, path).runs.loc[run, "seed"] == 1
    plan = json.loads(path.read_text())
    assert "claim" in plan and RunFolder(synthetic.root / run).complete
