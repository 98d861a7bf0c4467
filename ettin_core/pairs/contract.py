"""The contract: in which fields the members of a pair may differ, each with its reason."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.training.config import RunConfig

EVIDENCE = (
    "fingerprint",
    "tokenizer",
    "parameters",
    "tokens",
    "loss_tokens",
    "flops",
    "seconds",
    "data_hash",
    "sessions",
)
NUMBERS = ("parameters", "tokens", "loss_tokens", "flops", "seconds")  # those that may agree within a tolerance
DIGITS = 12  # significant digits of a share, so that rounding of the division does not count
INITIAL_WEIGHTS = ("equal", "from_parent", "reported")


@dataclass(frozen=True)
class Contract:
    """`may_differ` maps dotted configuration fields (a field covers what is below it) to the reason.

    `equal` and `reported` name entries of the run summaries: those that must be equal, and those that are only reported.
    `within` names those that must agree to a relative tolerance. `initial_weights` is `equal` for members of a pair,
    `from_parent` for a conversion and its parent, `reported` where a study varies them.
    """

    name: str
    may_differ: dict[str, str]
    initial_weights: str
    equal: tuple[str, ...]
    reported: tuple[str, ...]
    within: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, reason in self.may_differ.items():
            known = _unknown_among(path)
            if known is not None:
                raise unknown(f"pair.may_differ.{path}", path, "is not a field of a run", known)
            if not reason:
                raise invalid(f"pair.may_differ.{path}", reason, "gives no reason", "say why the members may differ")
        for name in (*self.equal, *self.reported, *self.within):
            if name not in EVIDENCE:
                raise unknown("pair.equal", name, "is not evidence of a run", EVIDENCE)
        for name, tolerance in self.within.items():
            if not 0 < tolerance < 1 or name not in NUMBERS:
                problem = "is not a tolerance of a number"
                raise invalid(f"pair.within.{name}", tolerance, problem, f"use 0.01, for one of {', '.join(NUMBERS)}")
        if self.initial_weights not in INITIAL_WEIGHTS:
            raise unknown("pair.initial_weights", self.initial_weights, "is unknown", INITIAL_WEIGHTS)

    def allows(self, path: str) -> str | None:
        """The entry of `may_differ` that covers a field, or None when the field may not differ."""
        for allowed in self.may_differ:
            if path == allowed or path.startswith(f"{allowed}."):
                return allowed
        return None


def _unknown_among(path: str) -> list[str] | None:
    """The known fields where a dotted path names none of them, else None. Names below a mapping (phases) are free."""
    kind: Any = RunConfig
    names = path.split(".")
    while names and is_dataclass(kind):
        hints = get_type_hints(kind)
        if names[0] not in hints:
            return sorted(item.name for item in fields(kind))
        hint = hints[names.pop(0)]
        kind = next((option for option in get_args(hint) if is_dataclass(option)), hint)
        if get_origin(hint) is dict:
            names = names[1:]
    return None


def comparable(run: RunConfig) -> RunConfig:
    """What the contract compares: the configuration without the rule of when checkpoints are written.

    A corpus counts by its fingerprint and not by its name, a mixture by the shares of its weights.
    """
    phases = {name: replace(phase, mixture=_shares(phase.mixture)) for name, phase in run.recipe.phases.items()}
    return replace(run, checkpoint=CheckpointConfig(), corpus="", recipe=replace(run.recipe, phases=phases))


def _shares(mixture: dict[str, float] | None) -> dict[str, float] | None:
    if mixture is None:
        return None
    total = sum(mixture.values())
    return {name: float(f"{weight / total:.{DIGITS}g}") for name, weight in mixture.items()}
