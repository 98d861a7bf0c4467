"""Rulers: what "equally long" means when two members are compared, and the length that makes it so."""

from dataclasses import dataclass, replace

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.planning.forecast import forecast
from ettin_core.training.config import PlacementConfig, RunConfig

RULERS = ("tokens", "loss_tokens", "flops", "seconds")
TOLERANCE = 0.01  # a run has a whole number of steps
ROUNDS = 8  # every ruler is nearly proportional to the tokens, so two or three rounds are enough


@dataclass(frozen=True)
class Ruler:
    """A ruler by name; `rates` are tokens per second by member, which only `seconds` needs.

    Loss-bearing tokens and FLOPs are forecast from rows of the corpus (None: rows that one document fills).
    """

    name: str
    rates: dict[str, float]
    corpus: Corpus | None = None

    def __post_init__(self) -> None:
        if self.name not in RULERS:
            raise unknown("match_on", self.name, "is not a ruler", RULERS)
        for member, rate in self.rates.items():
            if not 0 < rate < float("inf"):
                raise invalid(f"rates.{member}", rate, "is not a rate", "give tokens per second, above 0")

    def measure(self, run: RunConfig) -> float:
        """The length of a planned run: tokens, loss-bearing tokens, FLOPs or seconds."""
        if self.name == "tokens":
            return float(run.tokens)
        if self.name == "seconds":
            if run.member not in self.rates:
                remedy = f"measure tokens per second (experiments.benchmark) and give rates.{run.member}=..."
                raise invalid("match_on", self.name, f"needs the rate of {run.member}", remedy)
            return run.tokens / self.rates[run.member]
        return float(sum(getattr(phase, self.name) for phase in forecast(run, PlacementConfig(), self.corpus).phases))

    def match(self, run: RunConfig, reference: RunConfig) -> RunConfig:
        """The run at the length that equals the reference's by this ruler, within 1 %.

        Raises ValueError if no length does.
        """
        if self.name == "tokens":
            return run
        wanted, tokens = self.measure(reference), run.recipe.tokens
        for _ in range(ROUNDS):
            matched = replace(run, recipe=replace(run.recipe, tokens=tokens))
            length = self.measure(matched)
            if abs(length / wanted - 1) <= TOLERANCE / 10:
                break
            tokens = max(1, round(tokens * wanted / length))
        if abs(length / wanted - 1) > TOLERANCE:
            problem = f"cannot be met: {run.member} is {length / wanted - 1:+.1%} off {reference.member}"
            remedy = "use a longer recipe or a smaller batch, so that a step is a smaller part of a run"
            raise invalid("match_on", self.name, problem, remedy)
        return matched
