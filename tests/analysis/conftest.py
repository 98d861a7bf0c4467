"""Synthetic run folders, written with the real record functions: plausible numbers for the four kinds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report import build
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Item, Measurement, TimingRecord, TrainingRecord

KINDS = {
    "encoder": ("bidirectional", "mlm", None),
    "decoder": ("causal", "clm", None),
    "enc-from-dec": ("bidirectional", "mlm", "decoder"),
    "dec-from-enc": ("causal", "clm", "encoder"),
}
SKILL = {"encoder": (0.72, 0.92), "decoder": (0.88, 0.0), "enc-from-dec": (0.75, 0.85), "dec-from-enc": (0.80, 0.0)}
FIELDS = {"agreement": 200, "morphology": 300, "syntax": 400, "semantics": 250}


class SyntheticStudy:
    """Writes run folders member by member, so that a test can leave one out or bend one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.cells: list[dict[str, Any]] = []

    def add(
        self, kind: str, seed: int = 0, version: int = 1, size: str = "nano", named: str | None = None
    ) -> RunFolder:
        """One complete run of a kind with training rows and every measurement it can have."""
        direction, objective, parent = KINDS[kind]
        member = named or kind
        folder = RunFolder(self.root / f"{size}-{member.replace(' ', '-')}-world-s{seed}-0a1b2c3d4e")
        folder.path.mkdir(parents=True)
        folder.config_file.write_text("size: nano\n")
        generator = np.random.default_rng([seed, list(KINDS).index(kind)])
        steps = 400 if parent is None else 60
        append(folder.metrics_file, _training(objective, steps, parent is not None, generator))
        self._measure(folder, kind, seed, version, generator)
        tokens = steps * 8192
        folder.finish(
            {
                "run": folder.name,
                "member": member,
                "size": size,
                "seed": seed,
                "direction": direction,
                "objective": objective,
                "parent": None if parent is None else f"{size}-{parent}-world-s{seed}-0a1b2c3d4e",
                "corpus": "world",
                "corpus_kind": "world",
                "fingerprint": "f" * 64,
                "tokens": tokens,
                "loss_tokens": int(tokens * (0.3 if objective == "mlm" else 1)),
                "flops": 6.0 * 1.1e6 * tokens,
                "seconds": 93.4 if parent is None else 14.2,
                "parameters": 1_103_872,
                "initial_weights": "a" * 64,
                "final_weights": "b" * 64,
                "data_hash": "c" * 64,
                "code": "d" * 64,
            }
        )
        self.names.append(folder.name)
        return folder

    def cell(
        self,
        axes: dict[str, Any],
        scores: dict[tuple[str, str, str], float] | None,
        objective: str = "mlm",
        parent: str | None = None,
        items: dict[str, np.ndarray] | None = None,
        tokens: int = 100_000,
        flops: float = 1e12,
        earlier: dict[str, dict[tuple[str, str, str], float]] | None = None,
    ) -> str:
        """A cell of a grid with the scores of its run, of `earlier` checkpoints too; without scores its run is missing."""
        name = " ".join(f"{axis}={level}" for axis, level in axes.items())
        folder = RunFolder(self.root / f"nano-{len(self.cells)}")
        self.cells.append({"name": name, "run": folder.name, "axes": axes, "parent": parent})
        if scores is None:
            return folder.name
        folder.path.mkdir(parents=True)
        folder.config_file.write_text("recipe: {phases: {pretrain: {prefix: step, mask_rate: 0.3}}}\n")
        append(folder.metrics_file, _logged(objective, tokens, flops))
        append(folder.timing_file, [TimingRecord(step, float(step), 1.0) for step in (25, 50, 75, 100)])
        for checkpoint, measured in [*(earlier or {}).items(), (None, scores)]:
            for (protocol, task, metric), value in measured.items():
                lower = metric in ("loss", "bits_per_token", "absolute_error")
                of_task = (items or {}).get(task)
                n = 400 if of_task is None else len(of_task)
                row = Measurement(
                    folder.name,
                    "m",
                    "nano",
                    0,
                    protocol,
                    1,
                    task,
                    metric,
                    value,
                    n,
                    None if of_task is None else 0.01,
                    checkpoint or "last",
                    not lower,
                )
                target = folder.evaluation_folder(protocol, 1, checkpoint)
                append(target / "measurements.jsonl", [row])
                if of_task is not None:
                    scored = [Item(folder.name, protocol, task, f"{i}", float(x)) for i, x in enumerate(of_task)]
                    append(target / "items.jsonl", scored)
        costs = {"tokens": tokens, "loss_tokens": tokens // 2, "flops": flops, "seconds": 100.0}
        folder.finish(
            {
                "run": folder.name,
                "member": "m",
                "size": "nano",
                "seed": 0,
                "direction": "causal" if objective == "clm" else "bidirectional",
                "objective": objective,
                "parent": parent,
                "corpus": "world",
                "parameters": 1_103_872,
                **costs,
            }
        )
        self.names.append(folder.name)
        return folder.name

    def study(self, extra_runs: tuple[str, ...] = (), **analysis: Any) -> Path:
        """The study.json of what was added, with the analysis that its cells are for."""
        path = self.root.parent / "study.json"
        plan = {"name": "demo_100%", "runs": [*self.names, *extra_runs], "certificates": [_certificate(self.names)]}
        if analysis:
            plan |= {"claim": "It matters.", "cells": self.cells, "analysis": analysis}
        path.write_text(json.dumps(plan))
        return path

    def _measure(self, folder: RunFolder, member: str, seed: int, version: int, generator: np.random.Generator) -> None:
        direction = KINDS[member][0]
        causal = direction == "causal"

        def measurement(protocol: str, task: str, metric: str, value: float, n: int, **more: Any) -> Measurement:
            fields = {"standard_error": 0.01, "checkpoint": "step400", "higher_is_better": True, **more}
            return Measurement(folder.name, member, "nano", seed, protocol, version, task, metric, value, n, **fields)

        def write(protocol: str, measurements: list[Measurement], items: list[Item] = []) -> None:  # noqa: B006
            target = folder.evaluation_folder(protocol, version)
            append(target / "measurements.jsonl", measurements)
            append(target / "items.jsonl", items)

        lower = {"higher_is_better": False}
        if causal:
            bits = 3.1 if member == "decoder" else 3.6
            rows = [
                measurement("heldout_clm", "world", "loss", bits * 0.693, 9000, **lower),
                measurement("heldout_clm", "world", "bits_per_token", bits, 9000, reference=2.45, **lower),
                measurement("heldout_clm", "world", "bits_per_byte", bits / 4.2, 37800, standard_error=None, **lower),
            ]
            write("heldout_clm", rows)
        else:
            rows = [
                measurement("heldout_mlm", "world", "loss", 1.4 if member == "encoder" else 1.7, 2700, **lower),
                measurement("heldout_mlm", "world", "accuracy", 0.62, 2700, reference=0.11),
            ]
            write("heldout_mlm", rows)
        scorings = ["left_to_right"] if causal else ["left_to_right", "pseudo_likelihood"]
        for scoring in scorings:
            skill = SKILL[member][scoring == "pseudo_likelihood"]
            for family, tasks, chance in (
                ("minimal_pairs", FIELDS, 0.5),
                ("facts", {"repeated": 160, "once": 120}, 0.1),
            ):
                protocol = f"{family}.{scoring}"
                scored = {task: _hits(generator, skill - 0.3 * (task == "once"), n) for task, n in tasks.items()}
                items = [
                    Item(folder.name, protocol, task, f"{task}-{place}", float(hit))
                    for task, hits in scored.items()
                    for place, hit in enumerate(hits)
                ]
                rows = [
                    measurement(protocol, task, "accuracy", float(hits.mean()), len(hits), reference=chance)
                    for task, hits in scored.items()
                ]
                if family == "minimal_pairs":
                    everything = np.concatenate(list(scored.values()))
                    rows.append(
                        measurement(protocol, "all", "accuracy", everything.mean(), everything.size, reference=0.5)
                    )
                write(protocol, rows, items)
        self._measure_pronouns(folder, measurement, write, generator)

    def _measure_pronouns(
        self, folder: RunFolder, measurement: Callable, write: Callable, generator: np.random.Generator
    ) -> None:
        truth = np.linspace(0.05, 0.9, 24)
        female = np.clip(truth * 1.1 - 0.05 + generator.normal(0, 0.05, 24), 0.01, 0.94)
        neutral = np.full(24, 0.05)
        items = [
            Item(
                folder.name,
                "pronouns",
                "world",
                f"occupation-{place}",
                float(share),
                {
                    "occupation": f"o{place}",
                    "male": float(0.95 - share),
                    "female": float(share),
                    "neutral": 0.05,
                    "truth_female": float(truth[place]),
                },
            )
            for place, share in enumerate(female)
        ]
        rows = []
        for task, known in (("world", True), ("winogender", False)):
            for name, value, true in (
                ("male", 0.95 - female.mean(), 0.95 - truth.mean()),
                ("female", female.mean(), truth.mean()),
                ("neutral", neutral.mean(), 0.05),
            ):
                rows.append(
                    measurement(
                        "pronouns", task, f"probability_{name}", float(value), 24, reference=true if known else None
                    )
                )
        error = float(np.abs(female - truth).mean())
        rows.append(measurement("pronouns", "world", "absolute_error", error, 24, higher_is_better=False))
        rows.append(measurement("pronouns", "world", "correlation", 0.95, 24, standard_error=None))
        write("pronouns", rows, items)


def _training(objective: str, steps: int, converted: bool, generator: np.random.Generator) -> list[TrainingRecord]:
    rows = []
    for step in range(0, steps, 4):
        tokens = step * 8192
        start = 3.4 if converted else 7.6
        loss = 2.0 + (start - 2.0) * np.exp(-step / (15 if converted else 60)) + generator.normal(0, 0.08)
        rows.append(TrainingRecord("pretrain", step, tokens, tokens, 6.6e6 * tokens, float(loss), 1e-3, 0.8, "c" * 64))
    return rows


def _logged(objective: str, tokens: int, flops: float) -> list[TrainingRecord]:
    """A run's log: a loss that falls with the share of the run that is done."""
    start = {"clm": 5.0}.get(objective, 4.0)
    return [
        TrainingRecord(
            "pretrain",
            step,
            tokens * step // 100,
            tokens * step // 200,
            flops * step / 100,
            start - step / 50,
            1e-3,
            1.0,
            "c",
        )
        for step in range(5, 101, 5)
    ]


def _hits(generator: np.random.Generator, skill: float, n: int) -> np.ndarray:
    return (generator.random(n) < skill).astype(float)


def _certificate(names: list[str]) -> dict[str, Any]:
    return {
        "pair": "encoder_decoder",
        "left": names[0],
        "right": names[-1],
        "verdict": "matched except",
        "differences": [
            {
                "field": "direction",
                "left": "bidirectional",
                "right": "causal",
                "allowed": True,
                "under": "direction",
                "reason": "asked",
            },
            {
                "field": "objective.name",
                "left": "mlm",
                "right": "clm",
                "allowed": True,
                "under": "objective.name",
                "reason": "goes with it",
            },
        ],
        "evidence": {"initial_weights": {"left": "a", "right": "a", "equal": True}},
    }


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticStudy:
    """A study to be filled."""
    return SyntheticStudy(tmp_path / "runs")


@pytest.fixture(scope="session")
def four_kinds(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    """A complete study of the four kinds, one seed; tests only read it."""
    study = SyntheticStudy(tmp_path_factory.mktemp("four") / "runs")
    for member in KINDS:
        study.add(member)
    study.study()
    return study


@pytest.fixture(scope="session")
def report(four_kinds: SyntheticStudy) -> Path:
    """The report of the four kinds, beside their runs; tests only read it."""
    out = four_kinds.root.parent / "report"
    build(four_kinds.root, out, four_kinds.study())
    return out
