"""What the command prints: a row for each checkpoint, way and task, and the folders of the chosen models."""

from collections.abc import Callable

from ettin_core.evaluation.retrieval.selection import GridScore

LEFT = ("member", "way", "task", "metric", "chosen by dev")  # columns of words
COLUMNS: dict[str, Callable[[GridScore], str]] = {
    "member": lambda score: score.measurement.member,
    "way": lambda score: score.measurement.protocol.split(".", 1)[1],
    "task": lambda score: score.measurement.task,
    "metric": lambda score: score.measurement.metric,
    "score": lambda score: _number(score.measurement.value),
    "± se": lambda score: _number(score.measurement.standard_error),
    "sd seeds": lambda score: _number(score.spread),
    "median": lambda score: _number(score.median),
    "worst": lambda score: "none" if score.worst is None else _number(score.worst),
    "trials": lambda score: str(score.trials),
    "BM25": lambda score: _number(score.value_of("bm25_ndcg_at_10")),
    "first stage": lambda score: _number(score.value_of("first_stage_ndcg_at_10")),
    "active": lambda score: _number(score.value_of("active_dimensions"), 1),
    "index MB": lambda score: _number(score.value_of("index_bytes"), 2, 1e6),
    "queries/s": lambda score: _number(score.value_of("queries_per_second"), 0),
    "chosen by dev": lambda score: _chosen(score),
}
OPTIONAL = ("BM25", "first stage", "active", "index MB", "queries/s")  # shown where a row has a value


def table(scores: list[GridScore]) -> str:
    """Aligned text; measures that no row has are left out."""
    cells = {name: [column(score) for score in scores] for name, column in COLUMNS.items()}
    shown = {name: texts for name, texts in cells.items() if name not in OPTIONAL or set(texts) != {"—"}}
    widths = {name: max(map(len, (name, *texts))) for name, texts in shown.items()}
    rows = [{name: name for name in shown}]
    rows += [{name: texts[number] for name, texts in shown.items()} for number in range(len(scores))]
    return "\n".join("  ".join(_aligned(name, row[name], widths[name]) for name in shown).rstrip() for row in rows)


def chosen_models(scores: list[GridScore], root: str) -> str:
    """The folder of the chosen setting's first seed, a line for each checkpoint and way that was trained."""
    lines = {
        (record.run, record.protocol): f"{record.member} {record.protocol.split('.', 1)[1]}: {root}/{chosen[0]}"
        for record in (score.measurement for score in scores)
        if (chosen := record.provenance["chosen"]) and record.provenance["setting"] is not None
    }
    return "\n".join(lines.values())


def _aligned(name: str, text: str, width: int) -> str:
    return text.ljust(width) if name in LEFT else text.rjust(width)


def _number(value: float | None, digits: int = 4, unit: float = 1.0) -> str:
    return "—" if value is None else f"{value / unit:.{digits}f}"


def _chosen(score: GridScore) -> str:
    untrained = "untrained" in score.measurement.protocol.split(".")
    return score.setting.slug if score.setting else "untrained" if untrained else "all diverged"
