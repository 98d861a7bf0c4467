"""What a tuning moved, in lines: each measure before and after, with its uncertainty."""

from ettin_core.evaluation.chat.tuning import TuningResult
from ettin_core.foundation.intervals import wilson_interval
from ettin_core.records.schema import Measurement


def table(result: TuningResult) -> str:
    """A line for each measure, then where the model is. Shares have Wilson's 95% interval, others a standard error."""
    before = {row.metric: row for row in result.before}
    lines = [f"{'measure':<24}{'before':>28}{'after':>28}{'n':>8}"]
    for row in result.after:
        first = before.get(row.metric)
        lines.append(f"{row.metric:<24}{'' if first is None else cell(first):>28}{cell(row):>28}{row.n:>8,}")
    lines.append(f"model    {result.folder}")
    if result.adapter is not None:
        lines.append(f"adapter  {result.adapter}")
    return "\n".join(lines)


def cell(row: Measurement) -> str:
    """A value with its interval or standard error."""
    if row.value is None:
        return "none"
    if row.metric.startswith("accuracy"):
        low, high = wilson_interval(row.value, row.n)
        return f"{row.value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{row.value:.4f}" + ("" if row.standard_error is None else f" ± {row.standard_error:.4f}")
