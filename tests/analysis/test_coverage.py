"""Studies drawn from the records of one: the shape is that of the records, the truth is known, a narrow interval is caught."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import coverage, coverage_files, inference
from analysis.artifacts import MANIFEST
from analysis.coverage import measure
from analysis.drawn_estimates import Shape, shape
from analysis.load import load
from analysis.observed import Call, watched
from analysis.records_archive import ARCHIVE
from analysis.resampled_studies import draw, shifts_of_null, source
from ettin_core.foundation.storage import read_json, write_json

SIZES = np.arange(60) % 7 + 1  # of clusters
LABELS = np.repeat(np.arange(60), SIZES)


def planted(seeds: int, runs: float = 0.2, items: float = 1.0, within: float = 0.5) -> np.ndarray:
    """Losses of two sides with run effects, cluster effects of each side, and noise of items within runs."""
    generator = np.random.default_rng(5)
    values = 3 + runs * generator.normal(0, 1, (2, seeds, 1)) + items * generator.normal(0, 1, (2, 1, 60))[..., LABELS]
    return values + within * generator.normal(0, 1, (2, seeds, len(LABELS)))


def called(*given: Any) -> Call:
    """The call of a difference."""
    with watched() as calls:
        inference.difference(*given)
    return calls[0]


def coverage_of(of_call: Shape, studies: int = 600) -> tuple[float, float]:
    """Coverage with and without an effect, and the error of the test."""
    row = coverage._measured(coverage._simulated(of_call, studies, 1, 0)[0])
    return row["coverage"], row["error"]


def test_the_variance_components_are_read_from_the_records() -> None:
    origin = source(planted(40), LABELS)
    assert origin.deviations == pytest.approx([0.2, 0.2], rel=0.35)
    assert (origin.sizes == SIZES).all() and not origin.choices
    assert origin.common > 0.99  # of the noise of items hardly any is a run's alone
    apart = source(planted(3, items=0.0), LABELS)
    assert apart.common < 0.6 and apart.deviations.max() < 0.5


def test_drawn_studies_have_the_truth_and_the_variance_of_the_records() -> None:
    values = planted(3)
    origin = source(values, LABELS)
    drawn = draw(origin, np.random.default_rng(0), 4000, np.array([0.5, 0.0]))
    assert drawn.shape == (2, 4000, 3, len(LABELS))
    means = drawn.mean((2, 3))
    assert means.mean(1) == pytest.approx(origin.truth + [0.5, 0.0], abs=0.01)
    known = inference.variance_components(values[0] - values[1], LABELS)
    expected = float(known.items) + max(0.0, float(known.runs - known.residual))
    assert (means[0] - means[1]).var() == pytest.approx(expected, rel=0.25)


def test_answers_stay_right_or_wrong_and_an_effect_turns_some() -> None:
    right = (np.random.default_rng(1).random((2, 3, len(LABELS))) < np.array([0.9, 0.6])[:, None, None]) * 1.0
    origin = source(right, LABELS)
    shift = shifts_of_null(origin)
    drawn = draw(origin, np.random.default_rng(0), 2000, shift)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert drawn.mean((1, 2, 3)) == pytest.approx(origin.truth + shift, abs=0.01)
    assert np.ptp(origin.truth + shift) == pytest.approx(0)


def test_the_estimator_of_the_report_holds_and_a_narrower_one_is_caught() -> None:
    values = planted(3, runs=0.02)
    of_call = shape(called(values[0], values[1], LABELS), [])
    assert (of_call.seeds, of_call.items, of_call.clusters) == (3, len(LABELS), 60)
    covered, error = coverage_of(of_call)
    assert (covered, error) == coverage_of(of_call)  # draws are seeded
    assert 0.93 <= covered <= 0.985 and error < 0.07
    origin = source(values, LABELS)

    def without_clusters(generator: np.random.Generator, studies: int, null: bool, _: float) -> Any:
        shift = shifts_of_null(origin) if null else np.zeros(2)
        left, right = draw(origin, generator, studies, shift)
        return [(inference.difference(left, right), float(np.subtract(*(origin.truth + shift))))]

    covered, error = coverage_of(replace(of_call, draw=without_clusters))
    assert covered < 0.9 and error > 0.08
    rows = pd.DataFrame([{"coverage": covered, "studies": 1200}])
    assert coverage_files.beyond(rows) == (1, 0)


def test_only_the_outermost_estimators_are_noted() -> None:
    values = planted(3)
    with watched() as calls:
        bounds = inference.difference(values[0], values[1], LABELS)
    inference.mean(values[0])
    assert [call.estimator for call in calls] == [inference.difference] and calls[0].result is bounds


def test_two_clusters_are_nothing_to_draw_from() -> None:
    values = planted(3)
    of_call = shape(called(values[0], values[1], LABELS % 2), [])
    assert of_call.draw is None and "fewer than 10 clusters" in of_call.reason


def test_every_interval_of_a_report_has_its_row(four_kinds: Any, tmp_path: Path) -> None:
    """And the files name what they were measured from."""
    study = load(four_kinds.root, four_kinds.study())
    intervals, families = measure(study, 120, 0)
    assert {"cells", "differences"} <= set(intervals["table"])
    drawn = intervals[intervals["coverage"].notna()]
    assert len(drawn) > 20 and drawn["coverage"].mean() > 0.9
    assert set(families["table"]) == {"differences"} and (families["error"] < 0.15).all()

    archive = tmp_path / "small" / ARCHIVE
    archive.parent.mkdir()
    archive.write_bytes(b"records")
    write_json(tmp_path / MANIFEST, {})
    inputs = coverage_files.inputs(archive)
    rows = [each.assign(study="small", inputs=inputs, asked=120, seed=0) for each in (intervals, families)]
    coverage_files.write(tmp_path, *rows)
    assert coverage_files.stale(tmp_path) == [] and set(read_json(tmp_path / MANIFEST)) == {*coverage_files.NAMES}
    assert len(coverage_files.tables(*coverage_files.read(tmp_path))) >= 2
    archive.write_bytes(b"other records")
    assert coverage_files.stale(tmp_path) == [
        f"{tmp_path / 'coverage.csv'} is stale for small (python -m analysis.coverage)"
    ]
