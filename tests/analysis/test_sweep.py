"""A sweep without a study's file: what its runs differ in becomes the report's keys, and seeds are averaged."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import swept
from analysis.kinds import analyse, sweep
from analysis.load import load
from analysis.report import build
from analysis.study_records import StudyRecords
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.storage import write_json
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Measurement, TrainingRecord
from ettin_core.training.config import RunConfig, Seeds
from ettin_core.training.parents import Merge, Parent
from ettin_core.training.phases import RecipeConfig
from tests.runs import tiny_run

CORPUS = cast(Corpus, SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=256), name="world-01", fingerprint="f" * 64))
RATE = "optimizer.learning_rate"
HELD_OUT = ("heldout_mlm", "world", "accuracy")


def run_of(member: str = "encoder", rate: float = 1e-3, seed: int = 1, **changes: Any) -> RunConfig:
    """A tiny run at a learning rate."""
    run = tiny_run(CORPUS, member, seeds=Seeds(seed, seed, seed), **changes)
    return replace(run, optimizer=replace(run.optimizer, learning_rate=rate))


def converted(parent: RunConfig, tokens: int, seed: int = 210) -> RunConfig:
    """A conversion of an encoder into a decoder."""
    return replace(
        parent,
        member="dec-from-enc",
        direction="causal",
        objective=ObjectiveConfig("clm"),
        recipe=replace(
            parent.recipe, tokens=tokens, phases={"conversion": replace(parent.recipe.phases["decay"], share=1.0)}
        ),
        seeds=replace(parent.seeds, order=seed, masks=seed),
        parent=Parent(parent.name, "decay5", "b" * 64),
    )


def finish(root: Path, run: RunConfig, loss: float, scores: Mapping[tuple[str, str, str], float] | None = None) -> None:
    """The folder that a run leaves, whose loss falls to `loss` at its end."""
    folder = RunFolder(root / run.name)
    folder.path.mkdir(parents=True)
    folder.config_file.write_text(yaml.safe_dump(run.plain, sort_keys=False))
    rows = [
        TrainingRecord("pretrain", step, step * 10, step * 5, step * 1e3, loss + (40 - step) / 10, 1e-3, 1.0, "c")
        for step in range(1, 41)
    ]
    append(folder.metrics_file, rows)
    for (protocol, task, metric), value in (scores or {}).items():
        target = folder.evaluation_folder(protocol, 1)
        row = Measurement(
            folder.name, run.member, run.size, 1, protocol, 1, task, metric, value, 50, None, "last", True
        )
        append(target / "measurements.jsonl", [row])
        append(target / "items.jsonl", [])
    costs = {"tokens": run.recipe.tokens, "loss_tokens": 100, "flops": 1e9, "seconds": 1.0, "parameters": 10_000}
    named = {"run": run.name, "member": run.member, "size": run.size, "seed": run.seeds.initialisation}
    parent = run.parent.run if run.parent else None
    write_json(
        folder.path / "COMPLETE",
        {
            **named,
            **costs,
            "direction": run.direction,
            "objective": run.objective.name,
            "parent": parent,
            "corpus": run.corpus,
        },
    )


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Two learning rates by two seeds: 2.0 and 2.2, 3.0 and 3.4."""
    for rate, losses in ((1e-3, (2.0, 2.2)), (3e-3, (3.0, 3.4))):
        for seed, loss in enumerate(losses, start=1):
            finish(tmp_path / "runs", run_of(rate=rate, seed=seed), loss)
    return tmp_path / "runs"


def axes(recorded: StudyRecords) -> list[str]:
    """The keys of a sweep's cells."""
    return list(next(iter(recorded.cells.values()))["axes"])


def test_a_sweep_is_grouped_by_what_differs_and_averaged_over_seeds(rates: Path, tmp_path: Path) -> None:
    recorded = load(rates)
    assert recorded.analysis == {"kind": "sweep"} and axes(recorded) == ["member", RATE, "seed"]
    assert recorded.claim == f"Runs that differ in {RATE}, over 2 seeds. All else in their configurations is equal."
    findings = analyse(recorded)
    table = findings.tables[0].table
    rows = [row for _, rows in table.sections for row in rows]
    end = 0.05  # the mean of the last two of forty rows, a twentieth
    assert table.header[:2] == [RATE, "Runs"] and [row[:2] for row in rows] == [["0.001", "2"], ["0.003", "2"]]
    for row, values in zip(rows, ((2.0, 2.2), (3.0, 3.4)), strict=True):
        assert row[2].startswith(f"{np.mean(values) + end:.3f} [")
    figure = findings.figures[0]
    assert figure.name == "sweep-optimizer-learning-rate" and list(figure.data["x"]) == [1e-3, 3e-3]
    assert list(figure.data["value"]) == pytest.approx([2.1 + end, 3.2 + end])
    assert figure.data["over"].unique() == ["2 seeds"]
    files = build(rates, tmp_path / "out")
    assert {"sweep.csv", "sweep.md", f"{figure.name}.png"} <= {file.name for file in files}
    assert f"differ in {RATE}" in (tmp_path / "out" / "index.html").read_text()


def test_measurements_are_beside_the_training_loss(tmp_path: Path) -> None:
    for rate in (1e-4, 1e-3, 1e-2):
        finish(tmp_path, run_of(rate=rate), 2.0, {HELD_OUT: 0.5 + rate})
    findings = analyse(load(tmp_path))
    assert [title.partition(":")[0] for title in findings.tables[0].table.header[2:]] == [
        "Training",
        "Held-out text, masked token",
    ]
    assert findings.figures[0].figure.axes[1].get_xscale() == "log"  # two decades
    assert load(tmp_path, where={RATE: 1e-3}).analysis == {"kind": "pair"}  # one run, evaluated: the plain report


def test_a_categorical_key_has_a_place_for_each_level(tmp_path: Path) -> None:
    for name in ("adamw", "stable_adamw"):
        run = run_of()
        finish(tmp_path, replace(run, optimizer=replace(run.optimizer, name=name, epsilon=len(name) * 1e-8)), 2.0)
    recorded = load(tmp_path)
    assert axes(recorded) == ["member", "optimizer.name", "seed"]
    assert "What differs together with these: optimizer with optimizer.name." in recorded.claim
    figure = analyse(recorded).figures[0]
    assert [label.get_text() for label in figure.figure.axes[0].get_xticklabels()] == ["adamw", "stable_adamw"]


def test_seeds_alone_are_repetitions_of_one_row(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        finish(tmp_path, run_of(seed=seed), 2.0 + seed)
    rows = [row for _, rows in analyse(load(tmp_path)).tables[0].table.sections for row in rows]
    assert [row[:2] for row in rows] == [["encoder", "3"]] and rows[0][2].startswith("4.050 [")


def test_merges_differ_in_weights_and_not_in_the_runs_of_each_seed(tmp_path: Path) -> None:
    for seed in (1, 2):
        parents = run_of(seed=seed), run_of("decoder", seed=seed)
        for run in parents:
            finish(tmp_path, run, 2.0)
        held = tuple(Parent(run.name, "decay5", "b" * 64) for run in parents)
        recipe = RecipeConfig(0, {"merge": replace(parents[0].recipe.phases["decay"], share=1.0)})
        for share in (0.25, 0.75):
            merge = Merge("weighted", held, (share, 1 - share))
            finish(tmp_path, replace(parents[0], member="merge-weighted", recipe=recipe, merge=merge), 2.0)
    assert axes(load(tmp_path)) == ["member", "merge.weights", "seed"]


def test_merges_of_one_run_with_two_seeds_are_two_cells(tmp_path: Path) -> None:
    first, *others = [run_of(seed=seed) for seed in (1, 2, 3)]
    for run in (first, *others):
        finish(tmp_path, run, 2.0)
    recipe = RecipeConfig(0, {"merge": replace(first.recipe.phases["decay"], share=1.0)})
    for second in others:
        held = tuple(Parent(run.name, "decay5", "b" * 64) for run in (first, second))
        merge = Merge("average", held, (0.5, 0.5))
        finish(tmp_path, replace(first, member="merge-average", recipe=recipe, merge=merge), 2.0)
    cells = load(tmp_path).cells.values()
    parents = {cell["axes"]["merge.parents"] for cell in cells}
    assert parents == {None, *(f"encoder@decay5 + encoder s{seed}@decay5" for seed in (2, 3))}


def test_members_of_other_objectives_never_share_a_loss(tmp_path: Path) -> None:
    for member, rate in (("encoder", 1e-3), ("encoder", 3e-3), ("decoder", 1e-3), ("decoder", 3e-3)):
        finish(tmp_path, run_of(member, rate), 2.0)
    findings = analyse(load(tmp_path))
    rows = [row for _, rows in findings.tables[0].table.sections for row in rows]
    assert [row[:2] for row in rows] == [
        ["encoder", "0.001"],
        ["encoder", "0.003"],
        ["decoder", "0.001"],
        ["decoder", "0.003"],
    ]
    assert all((row[3] == "—") != (row[4] == "—") for row in rows)
    curves = findings.figures[0].data.groupby("task")["curve"].unique()
    assert {tuple(names) for names in curves} == {("encoder",), ("decoder",)}


def test_a_conversion_has_its_lineage_and_budget(tmp_path: Path) -> None:
    for rate in (1e-3, 3e-3):
        for seed in (1, 2):
            parent = run_of(rate=rate, seed=seed)
            finish(tmp_path, parent, 2.0)
            for tokens in (767, 3839):  # whole tokens of a tenth and of a half
                finish(tmp_path, converted(parent, tokens), 3.0)
    recorded = load(tmp_path)
    cells = pd.DataFrame([cell["axes"] for cell in recorded.cells.values()])
    assert list(cells.columns) == ["member", "budget", RATE, "seed"] and set(cells["seed"]) == {1, 2}
    assert set(cells[cells["member"] == "dec-from-enc"]["budget"]) == {0.1, 0.5}
    assert len(set(recorded.labels.values())) == 6
    figures = analyse(recorded).figures
    assert [figure.name for figure in figures] == ["sweep-budget", "sweep-optimizer-learning-rate"]
    again = converted(run_of(rate=1e-3), 767, seed=211)  # another seed of a conversion is another repetition
    finish(tmp_path, again, 3.0)
    seeds = load(tmp_path).runs.loc[[again.name, converted(run_of(rate=1e-3), 767).name], "seed"]
    assert list(seeds) == ["1/211", "1/210"]


def test_where_keeps_what_has_the_settings(rates: Path) -> None:
    assert set(load(rates, where={"seed": 1}).runs["seed"]) == {1}
    assert len(load(rates, where={RATE: [1e-3, 3e-3], "seed": [2]}).runs) == 2
    assert swept.flat({"optimizer": {"learning_rate": 1e-3}}) == {RATE: 1e-3}
    with pytest.raises(
        ValueError, match=rf"where.learning_rat=0.001 is not a setting of these runs; did you mean {RATE}\?"
    ):
        load(rates, where={"learning_rat": 1e-3})
    with pytest.raises(ValueError, match=r"where.optimizer.learning_rate=0.5 is of no run; they have 0.001, 0.003"):
        load(rates, where={RATE: 0.5})


def test_a_search_over_many_levels_has_a_row_for_each_run_and_one_curve(tmp_path: Path) -> None:
    for place in range(1, 13):
        run = run_of(rate=place * 1e-3)
        finish(
            tmp_path, replace(run, optimizer=replace(run.optimizer, weight_decay=place % 5 * 0.1 + place / 1e3)), 2.0
        )
    findings = analyse(load(tmp_path))
    assert sum(len(rows) for _, rows in findings.tables[0].table.sections) == 12
    assert [list(figure.data["curve"].unique()) for figure in findings.figures] == [[""], [""]]


def test_combinations_are_divided_until_a_figure_can_be_read() -> None:
    levels = [(member, decay, rate) for member in ("encoder", "decoder") for decay in range(5) for rate in (1e-3, 3e-3)]
    frame = pd.DataFrame(levels, columns=["member", "optimizer.weight_decay", RATE])
    parts = list(sweep._parts(frame, ["member", "optimizer.weight_decay"]))
    assert [title for title, _ in parts] == [" (encoder)", " (decoder)"]
    assert all(part["curve"].nunique() == 5 and len(part) == 10 for _, part in parts)
    assert list(sweep._parts(frame, ["member"]))[0][1]["curve"].nunique() == 2


@pytest.mark.parametrize("part", [{"seeds": [1, 2]}, {"recipe": 3}, {"parent": {"run": "itself"}}, {"model": None}])
def test_a_configuration_of_another_shape_is_told_as_it_is(part: dict[str, Any], rates: Path) -> None:
    folder = next(iter(sorted(rates.iterdir())))
    changed = yaml.safe_load((folder / "config.yaml").read_text()) | part
    if "parent" in part:
        changed["parent"] = {"run": folder.name}  # a circle
    (folder / "config.yaml").write_text(yaml.safe_dump(changed))
    assert len(swept.settings_of([RunFolder(path) for path in sorted(rates.iterdir())])) == 4
    assert swept.plan([RunFolder(path) for path in sorted(rates.iterdir())])["cells"]
