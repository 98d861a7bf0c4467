"""The contract: in which fields the members of a pair may differ, each with its reason."""

from dataclasses import dataclass, fields

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.structures import plain
from ettin_core.training.run import RunConfig

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


@dataclass(frozen=True)
class Contract:
    """`may_differ` maps dotted configuration fields (a field covers what is below it) to the reason.

    `equal` and `reported` name entries of the run summaries: those that must be equal, and those that are only told.
    `initial_weights` is `equal` for members of a pair, `from_parent` for a conversion and its parent.
    """

    name: str
    may_differ: dict[str, str]
    initial_weights: str
    equal: tuple[str, ...]
    reported: tuple[str, ...]

    def __post_init__(self) -> None:
        known = {field.name for field in fields(RunConfig)}
        for path, reason in self.may_differ.items():
            if path.split(".")[0] not in known:
                raise invalid(
                    f"pair.may_differ.{path}", path, "is not a field of a run", f"use {', '.join(sorted(known))}"
                )
            if not reason:
                raise invalid(f"pair.may_differ.{path}", reason, "gives no reason", "say why the members may differ")
        for name in (*self.equal, *self.reported):
            if name not in EVIDENCE:
                raise invalid("pair.equal", name, "is not evidence of a run", f"use {', '.join(EVIDENCE)}")
        if self.initial_weights not in ("equal", "from_parent"):
            raise invalid("pair.initial_weights", self.initial_weights, "is unknown", "use equal or from_parent")

    def allows(self, path: str) -> str | None:
        """The entry of `may_differ` that covers a field, or None when the field may not differ."""
        for allowed in self.may_differ:
            if path == allowed or path.startswith(f"{allowed}."):
                return allowed
        return None


def comparable(run: RunConfig) -> dict:
    """What the contract compares: the configuration without the rule of when checkpoints are written."""
    return {key: value for key, value in plain(run).items() if key != "checkpoint"}
