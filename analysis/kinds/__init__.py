"""The kinds of analysis that a study may ask for, one module each; a kind is registered by its name here."""

from collections.abc import Callable

from analysis.kinds import cells, curve, effects, frontier, pair, rulers, sweep
from analysis.kinds.design import Findings, unknown_name
from analysis.study_records import StudyRecords
from ettin_core.records.analyses import ANALYSES

KINDS: dict[str, Callable[[StudyRecords], Findings]] = {
    "pair": pair.analyse,
    "effects": effects.analyse,
    "curve": curve.analyse,
    "frontier": frontier.analyse,
    "rulers": rulers.analyse,
    "cells": cells.analyse,
    "sweep": sweep.analyse,
}
assert tuple(KINDS) == ANALYSES


def analyse(study: StudyRecords) -> Findings:
    """The analysis that the study asks for. Raises ValueError for a kind, an option or an axis that does not exist."""
    kind = study.analysis["kind"]
    if kind not in KINDS:
        raise unknown_name("analysis.kind", kind, "is no kind of analysis", list(KINDS))
    if kind != "pair" and not study.cells:
        raise ValueError(
            f"analysis.kind={kind!r} needs the study's cells; give record=<study.json> of a study with axes."
        )
    return KINDS[kind](study)
