"""From records to arrays: the item values whose mean a measurement is, and the clusters that they come in.

A metric's values are used only where their mean is the measured number, so no interval rests on items of another kind.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.inference import Bounds
from ettin_core.records.item_tables import ItemTable

CORRELATIONS = ("correlation", "spearman", "pearson", "mcc", "matthews")  # metrics whose names hold one of these
SHARES = (
    "absolute_error",
    "f1",
    "entity_f1",
    "mrr",
    "map",
    "em",
    "icat",
    "preference_pro",
    "gotcha_rate",
    "minority_share",
)
SHARE_PREFIXES = ("acc", "exact_match", "probability_", "predicted_", "ndcg_at_", "stereotype", "language_model_score")
BY_METRIC = "by_metric"  # of an item's details: its values of several metrics, where lm-eval's samples have them
AGREEMENT = 1e-4  # of the value, or of one: a measurement and its items may be stored rounded

Key = tuple[str, str, str]  # run, protocol and task


class Items(dict[Key, pd.DataFrame]):
    """Item scores by run, protocol and task, indexed by item; it remembers where the parts of a task are."""

    def __init__(self, *known: dict[Key, pd.DataFrame]) -> None:
        super().__init__({key: frame for each in known for key, frame in each.items()})
        self._places: dict[Key, dict[str, list[int]]] = {}
        self.of_records: dict[tuple[Any, ...], pd.DataFrame | None] = {}  # by `item_values`, which many tables ask

    def part(self, key: Key, name: str) -> pd.DataFrame | None:
        """The items of a part of a task, found in one pass over the task's items for all its parts; None without any."""
        task_items = self.get(key)
        if task_items is None:
            return None
        if key not in self._places:
            places: dict[str, list[int]] = {}
            for place, (item, details) in enumerate(zip(task_items.index, task_items["details"], strict=True)):
                for part in _parts(str(item), details):
                    places.setdefault(part, []).append(place)
            self._places[key] = places
        in_part = self._places[key].get(name)
        return task_items.iloc[in_part] if in_part else None


def item_frames(tables: Sequence[ItemTable]) -> dict[Key, pd.DataFrame]:
    """`value` and `details` of the items of every task."""
    by_task: dict[Key, list[ItemTable]] = {}
    for table in tables:
        by_task.setdefault((table.run, table.protocol, table.task), []).append(table)
    return {key: item_frame(parts) for key, parts in by_task.items()}


def item_frame(tables: Sequence[ItemTable], by_task: bool = False) -> pd.DataFrame:
    """`value` and `details` by item, sorted; items of several tasks are named `by_task`.

    Raises ValueError for an item that is there twice.
    """
    names = [f"{table.task}/{item}" if by_task else item for table in tables for item in table.items]
    columns = {
        "value": [value for table in tables for value in table.values],
        "details": [details for table in tables for details in table.details],
    }
    frame = pd.DataFrame(columns, index=pd.Index(names, name="item")).sort_index()
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()][0]
        where = {"run": tables[0].run, "protocol": tables[0].protocol, "task": tables[0].task, "item": twice}
        raise ValueError(
            f"record={where!r} appears {int((frame.index == twice).sum())} times; "
            "delete that evaluation folder and evaluate the run again."
        )
    return frame


def kind_of(metric: str) -> str:
    """What decides a metric's interval: "share" (a mean within 0 and 1), "correlation", or any other "mean", also of changes."""
    if metric.endswith("_change"):
        return "mean"
    if any(name in metric for name in CORRELATIONS):
        return "correlation"
    return "share" if metric in SHARES or metric.startswith(SHARE_PREFIXES) else "mean"


def within(bounds: Bounds, metric: str, spans: float = 1.0) -> Bounds:
    """An interval of a difference without what no difference can be: of shares beyond one, of correlations beyond two.

    A contrast has as many `spans` as its positive weights add up to.
    """
    most = {"share": 1.0, "correlation": 2.0}.get(kind_of(metric), np.inf) * spans
    return bounds._replace(low=np.maximum(bounds.low, -most), high=np.minimum(bounds.high, most))


def item_values(items: Items, record: Any) -> pd.DataFrame | None:
    """The items behind one measurement: `value` and `cluster` by item; None when their mean is another number."""
    key = tuple(record[name] for name in ("run", "scored_as", "task", "metric", "value"))
    if key not in items.of_records:
        items.of_records[key] = _item_values(items, record)
    return items.of_records[key]


def _item_values(items: Items, record: Any) -> pd.DataFrame | None:
    value = record["value"]
    task_items = items_of(items, record["run"], record["scored_as"], record["task"])
    if task_items is None or value is None or math.isnan(value):
        return None
    values = _values(task_items, record["metric"])
    if values is None or values.isna().any() or values.empty:
        return None
    agree = abs(values.mean() - value) < AGREEMENT * max(1.0, abs(value))
    return values_in_clusters(values, task_items) if agree else None


def values_in_clusters(values: pd.Series, items: pd.DataFrame) -> pd.DataFrame:
    """Values with the cluster that each item's record names; an item without one is its own."""
    named = {item: details.get("cluster") for item, details in zip(items.index, items["details"], strict=True)}
    clusters = [named.get(item) or str(item) for item in values.index]
    return pd.DataFrame({"value": values, "cluster": clusters}, index=values.index)


def aligned(frames: Sequence[pd.DataFrame | None]) -> tuple[np.ndarray, np.ndarray] | None:
    """Values (measurements, items) of the items that all have, and their clusters; None without two in common."""
    known = [frame for frame in frames if frame is not None]
    if len(known) < len(frames) or not known:
        return None
    common = known[0].index
    for frame in known[1:]:
        common = common.intersection(frame.index)
    if len(common) < 2 or any(len(common) < 0.5 * len(frame) for frame in known):
        return None
    return np.stack([frame.loc[common, "value"] for frame in known]), known[0].loc[common, "cluster"].to_numpy(str)


def items_of(items: Items, run: str, protocol: str, task: str) -> pd.DataFrame | None:
    """The items of a task, or of the parts that make it up, or of the part of a task that it names; None without any."""
    if (run, protocol, task) in items:
        return items[run, protocol, task]
    whole, _, part = task.partition("/")
    if not part:
        parts = [
            task_items
            for (of_run, of_protocol, name), task_items in items.items()
            if (of_run, of_protocol) == (run, protocol) and name.startswith(f"{task}/")
        ]
        return pd.concat(parts) if parts else None
    return items.part((run, protocol, whole), part)


def ties(items: pd.DataFrame) -> float | None:
    """The share of choices that are ties, which count as a guess; None where values are no choices."""
    values = items["value"].to_numpy(dtype=float)
    chosen = np.isin(values, (0.0, 1.0))
    guesses = np.isclose(1 / np.where(values > 0, values, 1.0), np.round(1 / np.where(values > 0, values, 1.0)))
    return float(1 - chosen.mean()) if (chosen | guesses).all() and chosen.any() else None


def _parts(item: str, details: dict[str, Any]) -> set[str]:
    """The parts that an item is of: its group, gotcha's gender, any gotcha, direction, phenomenon and paradigm."""
    names = {str(details[name]) for name in ("group", "gotcha") if details.get(name) is not None}
    names |= {f"{kind}/{details[kind]}" for kind in ("direction", "phenomenon") if details.get(kind) is not None}
    paradigm, mark, _ = item.partition("#")
    return names | ({f"paradigm/{paradigm}"} if mark else set()) | ({"gotcha"} if "gotcha" in details else set())


def _values(items: pd.DataFrame, metric: str) -> pd.Series | None:
    """The values of a metric, by item, by target term (StereoSet) or by occupation (correlations)."""
    details = list(items["details"])
    if BY_METRIC in details[0]:
        return _each(items, details, lambda item: item[BY_METRIC].get(metric))
    if metric.startswith("probability_") and metric.removeprefix("probability_") in details[0]:
        return _each(items, details, lambda item: item.get(metric.removeprefix("probability_")))
    if metric.startswith("predicted_") and ("predicted" in details[0] or _has_forms(details)):
        wanted = metric.removeprefix("predicted_")
        return _each(items, details, lambda item: float(item.get("predicted", _likeliest(item)) == wanted))
    if metric.startswith("perplexity_"):
        return _each(items, details, lambda item: item.get(metric.removeprefix("perplexity_")))
    if metric.startswith("correlation_with_"):
        return _correlation_values(items, details, metric.removeprefix("correlation_with_"))
    if metric in METRICS:
        return METRICS[metric](items, details)
    return items["value"].astype(float)


def _each(items: pd.DataFrame, details: list[dict[str, Any]], value: Callable[[dict[str, Any]], Any]) -> pd.Series:
    return pd.Series([value(item) for item in details], index=items.index, dtype=float)


def _probability_pro(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series:
    return _each(items, details, lambda item: item.get("probability_pro"))


def _absolute_error(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series:
    truth = _each(items, details, lambda item: item.get("truth_female"))
    return (items["value"].astype(float) - truth).abs()


def _gotcha_rate(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series | None:
    """The likeliest of three pronouns is the gotcha's; the published protocols store that as the value."""
    if "predicted" in details[0]:
        return items["value"].astype(float)
    return (
        _each(items, details, lambda item: float(_likeliest(item) == item["gotcha"])) if _has_forms(details) else None
    )


def _minority_share(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series | None:
    if not _has_forms(details):
        return None
    return _each(items, details, lambda item: item[item["gotcha"]] / (item["female"] + item["male"]))


def _by_target(items: pd.DataFrame, details: list[dict[str, Any]], meaningful: bool) -> pd.Series | None:
    """StereoSet averages target terms: a term is an item."""
    if any("target" not in item for item in details):
        return items["value"].astype(float)
    values = [item["meaningful"] for item in details] if meaningful else items["value"].astype(float).tolist()
    names = [f"{item['group']}/{item['target']}" for item in details]
    return pd.Series(values, index=names, dtype=float).groupby(level=0).mean()


def _icat(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series | None:
    meaningful, stereotype = _by_target(items, details, True), _by_target(items, details, False)
    if meaningful is None or stereotype is None or len(meaningful) < 3:
        return None
    rows = np.stack([meaningful, stereotype], axis=1)

    def score(table: np.ndarray) -> float:
        language, preference = table.mean(0)
        return float(language * min(preference, 1 - preference) / 0.5)

    return pd.Series(pseudo_values(score, rows), index=meaningful.index)


def _correlation_values(items: pd.DataFrame, details: list[dict[str, Any]], statistic: str) -> pd.Series | None:
    """Pseudo-values by occupation of the correlation of she among she and he with a statistic."""
    name = "truth_female" if statistic == "truth" else f"{statistic}_female"
    if not _has_forms(details) or any(name not in item or "occupation" not in item for item in details):
        return None
    table = pd.DataFrame(
        {
            "occupation": [item["occupation"] for item in details],
            "model": [item["female"] / (item["female"] + item["male"]) for item in details],
            "truth": [item[name] / (item[name] + item.get("truth_male", 1 - item[name])) for item in details],
        }
    )
    means = table.groupby("occupation").mean()
    if len(means) < 4 or means["model"].std() == 0 or means["truth"].std() == 0:
        return None
    rows = means.to_numpy()
    return pd.Series(pseudo_values(lambda rest: float(np.corrcoef(rest.T)[0, 1]), rows), index=means.index)


def pseudo_values(statistic: Callable[[np.ndarray], float], rows: np.ndarray) -> np.ndarray:
    """Values of independent rows whose mean is a statistic and whose standard error is the jackknife's."""
    without = np.array([statistic(np.delete(rows, place, axis=0)) for place in range(len(rows))])
    return statistic(rows) - (len(rows) - 1) * (without - without.mean())


def _bits_per_byte(items: pd.DataFrame, details: list[dict[str, Any]]) -> pd.Series | None:
    """A ratio's linearisation, where the documents' bytes are recorded."""
    if any("bytes" not in item for item in details):
        return None
    sizes = np.array([item["bytes"] for item in details], dtype=float)
    bits = np.array([item["tokens"] * item["loss"] for item in details]) / math.log(2)
    ratio = bits.sum() / sizes.sum()
    return pd.Series(ratio + (bits - ratio * sizes) / sizes.mean(), index=items.index)


def _has_forms(details: list[dict[str, Any]]) -> bool:
    return all({"female", "male", "neutral"} <= item.keys() for item in details)


def _likeliest(item: dict[str, Any]) -> str:
    return max(("female", "male", "neutral"), key=lambda form: float(item[form]))


METRICS: dict[str, Callable[[pd.DataFrame, list[dict[str, Any]]], pd.Series | None]] = {
    "probability_pro": _probability_pro,
    "gap": lambda items, details: 2 * items["value"].astype(float) - 1,
    "absolute_error": _absolute_error,
    "gotcha_rate": _gotcha_rate,
    "minority_share": _minority_share,
    "language_model_score": lambda items, details: _by_target(items, details, True),
    "stereotype_score": lambda items, details: _by_target(items, details, False),
    "icat": _icat,
    "bits_per_token": lambda items, details: items["value"].astype(float) / math.log(2),
    "bits_per_byte": _bits_per_byte,
}
