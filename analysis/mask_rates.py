"""Encoders of several mask rates against a decoder of another study that saw the same tokens in the same order."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.estimates import verdicts
from analysis.inference import difference_of_runs
from analysis.run_scores import NAME
from analysis.study_records import MEASURE, rows_of
from analysis.tables import measure
from analysis.ways import split, way_name, with_own_ways
from analysis.wording import question_name

AXIS = "mask_rate"
FEWEST = 2  # seeds that both sides must have


def compared(tables: Mapping[tuple[str, str], pd.DataFrame], reason: str) -> Iterator[dict[str, Any]]:
    """A row per measurement and mask rate: encoder less decoder over their common seeds; a hole where there is no decoder."""
    scores = {study: frame for (study, name), frame in tables.items() if name == NAME and len(frame)}
    compared_any = False
    for study, encoders in scores.items():
        if AXIS not in encoders:
            continue
        decoders = _decoders(encoders, scores)
        if decoders is None:
            continue
        compared_any = True
        for row in rows_of(differences(encoders.assign(level=encoders[AXIS]), decoders)):
            yield {"varies": "mask rate", "study": study, **described(row), "condition": f"{row.level:g}"}
    if not compared_any:
        yield {"varies": "mask rate", "hole": reason}


def _decoders(encoders: pd.DataFrame, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The scores of the native decoders of the first study that has enough of them on the encoders' data."""
    data = set(encoders["data_hash"])
    for frame in scores.values():
        native = (frame["objective"] == "clm") & (frame["direction"] == "causal") & frame["parent"].isna()
        whole = frame["scored_share"].fillna(1.0) == 1.0 if "scored_share" in frame else True
        rows = frame[native & whole & frame["data_hash"].isin(data)]
        if rows["seed"].nunique() >= FEWEST:
            return rows
    return None


def described(row: Any) -> dict[str, Any]:
    """What one of the `differences` says, as columns of a conclusion."""
    question, way = split(row.protocol)
    scored = f", {way_name(way)}" if way else ""
    return {
        "left": "encoder − decoder",
        "right": "",
        "measured": f"{question_name(question)}{scored}: {measure(row._asdict())}",
        **{name: getattr(row, name) for name in ("value", "low", "high", "words")},
    }


def differences(encoders: pd.DataFrame, decoders: pd.DataFrame) -> pd.DataFrame:
    """Encoders of each `level` less decoders by common seeds, with verdicts Holm-corrected within each level and question."""
    both = pd.concat([encoders.assign(side="encoder"), decoders.assign(side="decoder")], ignore_index=True)
    both = both.assign(scored_as=both["protocol"])
    runs = both.drop_duplicates("run").set_index("run")
    rows: list[dict[str, Any]] = []
    for key, group in with_own_ways(both, runs).groupby(MEASURE, sort=False):
        right = group[group["side"] == "decoder"].drop_duplicates("seed").set_index("seed")
        for level, of_level in group[group["side"] == "encoder"].groupby("level"):
            left = of_level.drop_duplicates("seed").set_index("seed")
            seeds = sorted(set(left.index) & set(right.index))
            if len(seeds) < FEWEST:
                continue
            sides = [side.loc[seeds] for side in (left, right)]
            values = [side["value"].to_numpy(dtype=float) for side in sides]
            errors = [side["standard_error"].to_numpy(dtype=float) for side in sides]
            known = None if any(pd.isna(error).any() for error in errors) else (errors[0], errors[1])
            bounds = difference_of_runs(values[0], values[1], known)
            named = dict(zip(MEASURE, key, strict=True)) | {
                "left": "encoder",
                "right": "decoder",
                "level": level,
            }
            tested = {name: float(getattr(bounds, name)) for name in ("value", "low", "high", "p")}
            rows.append(named | {"higher_is_better": bool(left["higher_is_better"].iloc[0])} | tested)
    if not rows:
        return pd.DataFrame(columns=[*MEASURE, "level", "value", "low", "high", "words", "higher_is_better"])
    frame = verdicts(pd.DataFrame(rows), ["level"], None)
    return frame[frame["family"] != ""]
