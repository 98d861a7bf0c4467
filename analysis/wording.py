"""What readers see of protocols, metrics and members: names, units, meanings and the order in which they are listed."""

from ettin_core.records.protocols import FAMILIES, METRICS, PROTOCOLS, Metric

UNORDERED = tuple(name for name, metric in METRICS.items() if not metric.ordered)
BESIDE = tuple(name for name, metric in METRICS.items() if metric.secondary)
DRAWN_APART = ("probability_male", "probability_female", "probability_neutral", "predicted_", "perplexity_")  # metrics
MEMBERS = ("encoder", "decoder", "enc-from-dec", "dec-from-enc")

_OBJECTIVES = {
    "mlm": "Masked-token loss (MLM)\nnats per masked token",
    "clm": "Next-token loss (CLM)\nnats per predicted token",
    "mntp": "Masked next-token loss (MNTP)\nnats per masked token",
}


def members_first(members: set[str]) -> list[str]:
    """Members in reading order: those of a complete study, then any other."""
    return [*(name for name in MEMBERS if name in members), *sorted(members - set(MEMBERS))]


def protocol_name(protocol: str) -> str:
    """The readable name of a protocol."""
    if protocol in PROTOCOLS:
        return PROTOCOLS[protocol].title
    family, _, rest = protocol.partition(".")
    if family in FAMILIES:
        return FAMILIES[family].title + (f", {_plain(rest).replace('.', ', ')}" if rest else "")
    return _plain(protocol).capitalize()


def question_name(question: str) -> str:
    """The readable name of what was asked, whichever way."""
    family, _, rest = question.partition(".")
    if family in FAMILIES:
        return FAMILIES[family].title + (f", {_plain(rest)}" if rest else "")
    if question in PROTOCOLS:
        return PROTOCOLS[question].title
    first = next(
        (words.title for name, words in PROTOCOLS.items() if name.startswith(f"{question}.")), _plain(question)
    )
    return first.partition(",")[0].capitalize() if first == _plain(question) else first.partition(",")[0]


def protocol_meaning(protocol: str) -> str:
    """What a protocol measures, in a sentence or two."""
    known = PROTOCOLS.get(protocol) or FAMILIES.get(protocol.partition(".")[0])
    return known.summary if known else "See the protocol's definition in docs/evaluation.md."


def metric_name(metric: str) -> str:
    """The readable name of a metric."""
    return METRICS.get(metric, Metric()).label or _plain(metric)


def metric_unit(metric: str) -> str:
    """The unit of a metric, which is also what may share an axis."""
    shared = METRICS["absolute_error"].unit if "correlation" in metric else _plain(metric)
    return METRICS.get(metric, Metric()).unit or shared


def objective_axis(objective: str) -> str:
    """The axis label of a training loss; it says which loss, because losses of two objectives cannot be compared."""
    return _OBJECTIVES.get(objective, f"Loss of {objective}\nnats per loss-bearing token")


def measured_name(measured: str) -> str:
    """The readable name of what a prediction is about: protocol, and behind colons its task and metric."""
    protocol, *rest = (part.strip() for part in measured.split(":"))
    if rest:
        rest[-1] = metric_name(rest[-1])
    return ": ".join(filter(None, [protocol_name(protocol), ", ".join(filter(None, rest))]))


def arrow(metric: str, higher_is_better: bool) -> str:
    """Which way is better."""
    return "" if metric in UNORDERED else " ↑" if higher_is_better else " ↓"


def order(protocol: str, task: str, metric: str) -> tuple[int, str, bool, str, int, str]:
    """The sorting key of a measurement: known protocols and metrics first, the task "all" last."""
    protocols, metrics = list(PROTOCOLS), [name for name, known in METRICS.items() if known.label]
    return (
        protocols.index(protocol) if protocol in protocols else len(protocols),
        protocol,
        task == "all",
        task,
        metrics.index(metric) if metric in metrics else -1,
        metric,
    )


def _plain(name: str) -> str:
    return name.replace("_", " ").replace(".", ", ")


def in_tables_only(metric: str) -> bool:
    """Whether a metric accompanies another in tables, and would fill a figure with panels that say little of their own."""
    second = metric.endswith(("_per_character", "_per_token")) and not metric.startswith("bits_")
    return second or metric == "tie_rate"
