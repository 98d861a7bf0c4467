"""The rate that a run should reach on its GPUs, and what to look at where it does not."""

from dataclasses import dataclass

WAITED = 0.1  # share of the time spent on waiting for batches that explains a low rate
UNKNOWN = "none of the causes known beforehand; look with torch.profiler"


@dataclass(frozen=True)
class ExpectedRate:
    """Tokens of text a second, of all processes: `low` to `high`. `suspects` are causes of a lower rate known beforehand."""

    low: float
    high: float
    suspects: tuple[str, ...] = ()

    def cause(self, rate: float, waited: float) -> str | None:
        """A line on why a rate is below the band (None: it is not); `waited` is the share of the time without a batch."""
        if rate >= self.low:
            return None
        causes = list(self.suspects)
        if waited > WAITED:
            causes.insert(0, f"{waited:.0%} of the time is spent waiting for batches: raise placement.workers")
        return f"{rate:,.0f} tokens/s, expected {self.low:,.0f} or more: {'; '.join(causes) or UNKNOWN}"
