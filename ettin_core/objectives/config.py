"""The objective of a run as configured: one objective, or a schedule of several, each with its direction."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_within
from ettin_core.foundation.strict_config import defining_module
from ettin_core.objectives import kinds
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES

SCHEDULES = ("mixture", "alternation", "sequence")

# Rows of logits held at once, in one buffer for all chunks. Fewer would stream the whole output matrix through the cache for
# too little work: 20 rows at 50,368 ids are half as fast as 1,024 (NOTEBOOK.md), which take 0.2 GiB in fp32.
CHUNK_ROWS = {"cpu": 1024, "cuda": 4096}


@dataclass(frozen=True)
class Component:
    """One objective of a schedule with its direction. `weight`: share of rows, steps in turn, or share of the tokens."""

    objective: str
    direction: str
    weight: float = 1.0


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective by name and its corruption shares; the mask rate belongs to the phase.

    `scored_share` is the random share of its predictions that clm scores. The name of a schedule takes `parts`:
    mixture      every global row draws its part by weight (GPT-BERT, Charpentier and Samuel 2024)
    alternation  `weight` steps of each part in turn (AntLM, Yu et al. 2024)
    sequence     one part after another, each for its share of the run's tokens (biphasic training, detours)
    """

    name: str
    mask_share: float = 0.8
    random_share: float = 0.1
    scored_share: float = 1.0
    parts: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in (*OBJECTIVES, *SCHEDULES):
            raise unknown("objective.name", self.name, "is not an objective", (*OBJECTIVES, *SCHEDULES))
        check_within("objective.mask_share", self.mask_share, 0, 1)
        check_within("objective.random_share", self.random_share, 0, 1)
        if self.mask_share + self.random_share > 1:
            raise invalid(
                "objective.mask_share", self.mask_share, "does not leave a share for the rest", "use 0.8 and 0.1"
            )
        if not 0 < self.scored_share <= 1:
            raise invalid("objective.scored_share", self.scored_share, "is not a share", "use more than 0, up to 1")
        if self.name in SCHEDULES:
            _check_parts(self.name, self.parts)
        elif self.parts:
            raise invalid("objective.parts", len(self.parts), f"are not used by {self.name}", f"use {SCHEDULES} or []")

    def under(self, direction: str) -> tuple[Component, ...]:
        """The parts of training: those of the schedule, or the objective alone under the run's direction."""
        return self.parts or (Component(self.name, direction),)

    def modules(self, direction: str) -> set[str]:
        """The modules that define the objectives of a run of a direction, without objectives that a program registered."""
        objectives = (OBJECTIVES[part.objective] for part in self.under(direction))
        modules = (defining_module(item, kinds.__name__, kinds.__path__, "OBJECTIVE") for item in objectives)
        return {module for module in modules if module is not None}

    def readout(self, direction: str) -> str:
        """The objective by whose readout a model of a run's direction is measured.

        In a schedule this is the last part whose direction is read out as the run's: the end of a sequence, or the part that
        a mixture or an alternation names last.
        """
        alike = [part for part in self.parts if DIRECTIONS[part.direction].readout == DIRECTIONS[direction].readout]
        return alike[-1].objective if alike else self.name


def _check_parts(name: str, parts: tuple[Component, ...]) -> None:
    if len(parts) < 2:
        raise invalid("objective.parts", len(parts), f"are too few for {name}", "give two or more")
    for number, part in enumerate(parts):
        path = f"objective.parts.{number}"
        if part.objective not in OBJECTIVES:
            raise unknown(f"{path}.objective", part.objective, "is not an objective", OBJECTIVES)
        if not 0 < part.weight < float("inf"):
            raise invalid(f"{path}.weight", part.weight, "is not positive", "use 1")
        if name == "alternation" and part.weight % 1:
            raise invalid(f"{path}.weight", part.weight, "is not a whole number of steps", "use whole numbers")
        check_well_posed(part.direction, part.objective)


def check_direction(direction: str) -> None:
    """Raises ValueError for an unknown direction."""
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, "is not a direction", DIRECTIONS)


def check_well_posed(direction: str, objective: str) -> None:
    """Raises ValueError if the answer of an objective is visible in the input under a direction."""
    check_direction(direction)
    if direction in OBJECTIVES[objective].leaks_under:
        raise invalid(
            "objective.name",
            objective,
            f"leaks under direction={direction!r}: the answer is visible",
            OBJECTIVES[objective].remedy,
        )


def check_run(direction: str, objective: ObjectiveConfig) -> None:
    """Raises ValueError if the direction and the objective of a run do not go together."""
    check_direction(direction)
    if not objective.parts:
        check_well_posed(direction, objective.name)
    elif not any(DIRECTIONS[part.direction].readout == DIRECTIONS[direction].readout for part in objective.parts):
        raise invalid(
            "direction",
            direction,
            "differs from that of every part of the objective, so the model could not be measured",
            f"use that of a part: {', '.join(dict.fromkeys(part.direction for part in objective.parts))}",
        )
