"""The plan's table: a line for every phase of a member at a size, as text and as CSV."""

from dataclasses import dataclass
from typing import Any

from ettin_core.foundation.spreadsheet import csv_text
from ettin_core.planning.forecast import PhaseForecast
from ettin_core.training.config import RunConfig
from ettin_core.training.memory import estimate_memory


@dataclass(frozen=True)
class PlanRow:
    """One line of the plan: a phase of a member at a size. Memory is an estimate, for one GPU."""

    size: str
    member: str
    phase: str
    direction: str
    objective: str
    context: int
    batch_rows: int
    packing: str
    mask_rate: float | None
    steps: int
    tokens: int
    loss_tokens: int
    flops: float
    peak_rate: float
    final_rate: float
    rope_base_global: float
    rope_base_local: float
    micro_rows: int
    memory_bytes: int
    gpu_hours: float | None


def plan_row(run: RunConfig, phase: PhaseForecast, micro_tokens: int) -> PlanRow:
    """The line of a phase; its memory is for micro-batches of at most `micro_tokens` tokens (one row at least)."""
    rows = max(1, min(phase.batches.rows, micro_tokens // phase.context))
    return PlanRow(
        run.size,
        run.member,
        phase.name,
        run.direction,
        run.objective.name,
        phase.context,
        phase.batches.rows,
        phase.packing,
        phase.mask_rate,
        phase.steps,
        phase.tokens,
        phase.loss_tokens,
        phase.flops,
        max(rate for _, rate in phase.knots),
        phase.knots[-1][1],
        *phase.rope_bases,
        micro_rows=rows,
        memory_bytes=estimate_memory(run, rows, phase.context, phase.loss_tokens / max(1, phase.tokens)).total,
        gpu_hours=phase.gpu_hours,
    )


HEADINGS = (
    "size",
    "member",
    "phase",
    "context",
    "steps",
    "tokens",
    "scored",
    "FLOPs",
    "peak rate",
    "final rate",
    "RoPE k",
    "GiB",
    "GPU-hours",
)
WORDS = 3  # columns at the left; the others are numbers, aligned at the right
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def table(plan_rows: list[PlanRow]) -> str:
    """The cells as text; RoPE bases (global/local) in thousands, memory in GiB of one GPU."""
    rows = [HEADINGS, *(_words(row) for row in plan_rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADINGS))]
    lines = []
    for row in rows:
        words = zip(row, widths, strict=True)
        lines.append("  ".join(w.ljust(n) if place < WORDS else w.rjust(n) for place, (w, n) in enumerate(words)))
    return "\n".join(lines)


def _words(row: PlanRow) -> tuple[str, ...]:
    hours = row.gpu_hours
    return (
        row.size,
        row.member,
        row.phase,
        str(row.context),
        f"{row.steps:,}",
        amount(row.tokens),
        amount(row.loss_tokens),
        f"{row.flops:.2e}",
        f"{row.peak_rate:.3g}",
        f"{row.final_rate:.3g}",
        f"{row.rope_base_global / 1000:g}/{row.rope_base_local / 1000:g}",
        f"{row.memory_bytes / 2**30:.2f}",
        "?" if hours is None else f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}",
    )


def amount(tokens: float) -> str:
    """A number of tokens to four digits: 1.7T, 499.7B, 2.242M."""
    unit, name = next((item for item in UNITS if tokens >= item[0]), (1.0, ""))
    return f"{tokens / unit:.4g}{name}"


def notes(plan_rows: list[PlanRow]) -> list[str]:
    """What the table assumes, and its sums."""
    hours = [row.gpu_hours for row in plan_rows if row.gpu_hours is not None]
    total = f"{sum(hours):,.0f} GPU-hours" + (" where a rate is known" if len(hours) < len(plan_rows) else "")
    tokens, flops = sum(row.tokens for row in plan_rows), sum(row.flops for row in plan_rows)
    return [
        f"{len(plan_rows)} cells: {amount(tokens)} tokens, {flops:.3g} FLOPs, {total}.",
        "Scored: loss-bearing tokens. FLOPs take rows that one document fills, the most that attention can cost. GiB: memory",
        "of one GPU, an estimate (ettin_core/planning/forecast.py). GPU-hours: at the rates of conf/throughput.csv, those of the",
        "published system on H100, one for both members and all phases, unless machine.tokens_per_second is given.",
        "Not checked without a corpus: passes over its sources, and padding, which packing=off has: its numbers are bounds.",
    ]


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV."""
    return csv_text(list(rows[0]), [list(row.values()) for row in rows])
