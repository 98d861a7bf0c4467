"""The size of a study, against studies that are drawn item by item and tested as a report tests them."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import inference
from analysis.load import load
from analysis.plan_study import Deviations, deviations, plan, power_of, seeds_for

REPOSITORY = Path(__file__).resolve().parents[2]
RUN, ITEM, REST = 0.02, 0.3, 0.4  # standard deviations


def drawn(generator: np.random.Generator, studies: int, seeds: int, items: int, effect: float) -> tuple[Any, Any]:
    """Both sides of planted studies, (studies, seeds, items): run effects of each side, items that differ, and the rest."""
    runs = generator.normal(0, RUN / 2**0.5, (2, studies, seeds, 1))
    differ = generator.normal(0, ITEM, (studies, 1, items))
    rest = generator.normal(0, REST / 2**0.5, (2, studies, seeds, items))
    return effect + runs[0] + differ + rest[0], runs[1] + rest[1]


@pytest.mark.parametrize(("seeds", "items", "effect"), [(3, 400, 0.05), (5, 1600, 0.04), (8, 400, 0.06)])
def test_power_is_that_of_studies_drawn_item_by_item(seeds: int, items: int, effect: float) -> None:
    known = Deviations(RUN**2, ITEM**2, REST**2, items)
    bounds = inference.difference(*drawn(np.random.default_rng(0), 400, seeds, items, effect))
    simulated = float(((bounds.p < 0.05) & (bounds.low > 0)).mean())
    assert 0.3 < simulated < 0.98
    assert power_of(known, effect, seeds, items) == pytest.approx(simulated, rel=0.2)


def test_deviations_are_recovered() -> None:
    left, right = drawn(np.random.default_rng(1), 1, 60, 2000, 0.0)
    recovered = deviations(left[0], right[0], None)
    assert math.sqrt(recovered.run) == pytest.approx(RUN, rel=0.2)
    assert math.sqrt(recovered.item) == pytest.approx(ITEM, rel=0.2)
    assert math.sqrt(recovered.rest) == pytest.approx(REST, rel=0.2)


def test_fewest_seeds_are_right_within_a_fifth() -> None:
    """The planned number has the power, and four fifths of it do not."""
    known = Deviations(RUN**2, 0.05**2, REST**2, 400)
    needed = seeds_for(known, 0.02, 0.8, 400)
    assert needed is not None and needed > 8
    assert power_of(known, 0.02, needed, 400) >= 0.8 > power_of(known, 0.02, math.floor(0.8 * needed), 400)
    assert seeds_for(known, 0.02, 0.8, 6400) < needed  # more items, fewer seeds
    assert seeds_for(known, 1e-5, 0.8, 400) is None


def test_a_plan_from_records(synthetic: Any, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        synthetic.add("encoder", seed)
        synthetic.add("decoder", seed)
    recorded = load(synthetic.root)
    with pytest.raises(ValueError, match="right='nobody' is not a member of these runs"):
        plan(recorded, "encoder", "nobody", 0.05, 0.8)
    with pytest.raises(ValueError, match="give an effect above 0"):
        plan(recorded, "encoder", "decoder", 0.0, 0.8)
    line = [sys.executable, "-m", "experiments.plan_study", f"runs={synthetic.root}", "effect=0.05", f"out={tmp_path}"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Not for the main table:" in done.stdout, done.stderr
    planned = pd.read_csv(tmp_path / "plan_study.csv").set_index(["protocol", "task", "metric"])
    row = planned.loc[("minimal_pairs.left_to_right", "syntax", "accuracy")]
    assert row["n"] == 400 and row["seeds_4"] <= row["seeds_1"] and row["minutes"] > 0
    assert not row["at_floor"] and row["main_table"] == (row["signal_to_noise"] >= 1)
