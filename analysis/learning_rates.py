"""Encoder and decoder at the preset learning rate, and each at the rate that a search found for it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.mask_rates import described, differences
from analysis.run_scores import NAME
from analysis.study_records import rows_of

AXIS = "learning_rate"
PRESET, TUNED = "preset rate", "own tuned rate"


def compared(tables: Mapping[tuple[str, str], pd.DataFrame], reason: str) -> Iterator[dict[str, Any]]:
    """A row per measurement and choice of the rate: encoder less decoder; a hole where no study has both choices.

    Such a study has an axis `learning_rate` with one rate that both members have, and at most one other of each.
    """
    compared_any = False
    for (study, name), frame in tables.items():
        if name != NAME or AXIS not in frame:
            continue
        encoders, decoders = _rates(frame[frame["objective"] != "clm"]), _rates(frame[frame["objective"] == "clm"])
        for level, pick in ((PRESET, _preset), (TUNED, _tuned)):
            rates = pick(set(encoders[AXIS]), set(decoders[AXIS]))
            if rates is None:
                continue
            left = encoders[encoders[AXIS] == rates[0]].assign(level=level)
            for row in rows_of(differences(left, decoders[decoders[AXIS] == rates[1]])):
                compared_any = True
                condition = f"{level}, {rates[0]:g}" + (f" and {rates[1]:g}" if rates[0] != rates[1] else "")
                yield {"varies": "learning rate", "study": study, **described(row), "condition": condition}
    if not compared_any:
        yield {"varies": "learning rate", "hole": reason}


def _rates(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["parent"].isna()].assign(**{AXIS: frame[AXIS].astype(float)})


def _preset(encoders: set[float], decoders: set[float]) -> tuple[float, float] | None:
    both = encoders & decoders
    return (min(both), min(both)) if len(both) == 1 else None


def _tuned(encoders: set[float], decoders: set[float]) -> tuple[float, float] | None:
    """The rate of each that is not the preset's; the preset's where the search found no better."""
    preset = _preset(encoders, decoders)
    if preset is None or max(len(encoders), len(decoders)) != 2:
        return None
    return max(encoders - {preset[0]}, default=preset[0]), max(decoders - {preset[1]}, default=preset[1])
