"""The summary of a grid: best point by dev, median and worst trial; and a check that members had the same grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import Any

from ettin_core.evaluation.protocol import Result
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.strict_config import differences
from ettin_core.records.schema import Measurement

TrialRecord = dict[str, Any]
HEADER = f"{'run':<32}{'task':<14}{'way':<21}{'start':<6}{'metric':<10}{'best':>8}{'± se':>8}{'seeds':>8}"
HEADER += f"{'median':>8}{'worst':>8}{'guess':>8}{'n':>7}{'trials':>7}"


@dataclass(frozen=True)
class Summary:
    """The point whose median dev score over seeds is the highest (the first of equal ones), and its trials."""

    point: list[float]
    trials: list[TrialRecord]
    results: list[Result]


def summarise(task: str, trials: Sequence[TrialRecord], reference: float | None) -> Summary:
    """All of a grid's trials as results.

    <metric>                 test score of the best point, the median over its seeds; standard error over items (the median
                             of its trials' errors)
    <metric>_seed_deviation  standard deviation of that score over seeds
    <metric>_dev             dev score of the best point, the median over its seeds
    <metric>_grid_median     median test score of all trials
    <metric>_grid_worst      test score of the worst trial
    """
    points: dict[tuple[float, ...], list[TrialRecord]] = {}
    for record in trials:
        trial = record["trial"]
        key = (trial["learning_rate"], trial["weight_decay"], trial["batch_size"], trial["epochs"])
        points.setdefault(key, []).append(record)
    point = max(points, key=lambda key: median(max(record["dev"]) for record in points[key]))
    best = points[point]
    results: list[Result] = []
    main_metric = best[0]["metric"]
    for metric in sorted(best[0]["test"], key=lambda metric: metric != main_metric):
        main = metric == main_metric
        values = [record["test"][metric]["value"] for record in best]
        errors = [record["test"][metric]["standard_error"] for record in best]
        error = None if None in errors else median(errors)
        n = best[0]["test"][metric]["n"]
        results.append(Result(task, metric, median(values), n, error, True, reference if main else None))
        if main:
            spread = stdev(values) if len(values) > 1 else None
            everywhere = [record["test"][metric]["value"] for record in trials]
            results += [
                Result(task, f"{metric}_seed_deviation", spread, len(values), None, False),
                Result(task, f"{metric}_dev", median(max(record["dev"]) for record in best), best[0]["dev_rows"]),
                Result(task, f"{metric}_grid_median", median(everywhere), n),
                Result(task, f"{metric}_grid_worst", min(everywhere), n),
            ]
    return Summary(list(point), best, results)


def check_equal_trials(measurements: Sequence[Measurement]) -> None:
    """Raises ValueError if scores to be compared come from different grids or rows."""
    first: dict[str, Measurement] = {}
    for row in measurements:
        reference = first.setdefault(row.task, row)
        left, right = ({key: item.provenance[key] for key in ("grid", "data")} for item in (reference, row))
        if unequal := differences(left, right):
            path, values = next(iter(unequal.items()))
            raise invalid(
                "finetuning",
                f"{path}: {values[0]} of {reference.run}, {values[1]} of {row.run}",
                f"gives members unequal trials of {row.task}",
                "fine-tune them with the same settings and compare those",
            )


def table(measurements: Sequence[Measurement]) -> str:
    """One line for each run, task, mode and start. Raises ValueError if trials are not equal."""
    check_equal_trials(measurements)
    by_run: dict[tuple[str, str], dict[str, Measurement]] = {}
    for row in measurements:
        by_run.setdefault((row.run, row.protocol), {})[row.metric] = row
    lines = [HEADER]
    for (run, _), by_metric in sorted(by_run.items(), key=lambda entry: (_order(entry), entry[0])):
        main = next(iter(by_metric.values()))
        facts = main.provenance
        extra = [by_metric[f"{main.metric}_{name}"].value for name in ("seed_deviation", "grid_median", "grid_worst")]
        numbers = [main.value, main.standard_error, *extra, main.reference]
        line = f"{run:<31} {main.task:<13} {facts['way']:<21}{facts['start'] or '—':<6}{main.metric:<10}"
        line += "".join(f"{'—' if number is None else format(number, '.4f'):>8}" for number in numbers)
        lines.append(f"{line}{main.n:>7}{facts['trials']:>7}")
    return "\n".join(lines)


def _order(entry: tuple[tuple[str, str], dict[str, Measurement]]) -> str:
    return next(iter(entry[1].values())).task
