"""A rule and a set of rules: the form in which the published thresholds are written down, and how they are applied."""

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ettin_core.data.curation.rules_features import Features

Item = TypeVar("Item")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Rule(Generic[Item]):
    """Something is removed when its measure compares so with the threshold; `source` is where that was published."""

    name: str
    measure: Callable[[Item], float]
    comparison: str
    threshold: float
    source: str

    def removes(self, item: Item) -> bool:
        """Whether the rule removes this document (or line)."""
        return COMPARISONS[self.comparison](self.measure(item), self.threshold)


class RuleOutcome(NamedTuple):
    """What a set leaves of a text, the rule that removed it as a whole, and the lines it dropped, by rule."""

    features: Features
    reason: str | None
    lines_removed: dict[str, int]


@dataclass(frozen=True)
class RuleSet:
    """Rules published together: `document` for whole documents, then `lines`, then `remainder` for what they leave."""

    name: str
    document: tuple[Rule[Features], ...] = ()
    lines: tuple[Rule[str], ...] = ()
    remainder: tuple[Rule[Features], ...] = ()

    def apply(self, features: Features) -> RuleOutcome:
        """Apply the rules in order; the first that removes the document names the reason."""
        reason = self._reason(self.document, features)
        if reason:
            return RuleOutcome(features, reason, {})
        left, lines_removed = self._without_bad_lines(features)
        return RuleOutcome(left, self._reason(self.remainder, left), lines_removed)

    def _reason(self, rules: tuple[Rule[Features], ...], features: Features) -> str | None:
        return next((f"{self.name}.{rule.name}" for rule in rules if rule.removes(features)), None)

    def _without_bad_lines(self, features: Features) -> tuple[Features, dict[str, int]]:
        """The text without the lines that a rule removes; empty lines next to each other then become one."""
        if not self.lines:
            return features, {}
        kept: list[str] = []
        removed: Counter[str] = Counter()
        for raw in features.text.split("\n"):
            line = raw.strip()
            rule = next((rule for rule in self.lines if rule.removes(line)), None) if line else None
            if rule:
                removed[f"{self.name}.{rule.name}"] += 1
            elif line or (kept and kept[-1]):
                kept.append(raw if line else "")
        return (Features("\n".join(kept).rstrip("\n")), dict(removed)) if removed else (features, {})
