"""How things are called and how they look: one place for names, order, colours and the matplotlib settings."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib

from analysis import labels

MEMBERS = ("encoder", "decoder", "enc-from-dec", "dec-from-enc")
UNORDERED = (  # neither more nor less is better: the reference is
    "probability_male",
    "probability_female",
    "probability_neutral",
    "probability_pro",
    "predicted_male",
    "predicted_female",
    "predicted_neutral",
    "preference_pro",
    "gap",
    "gotcha_rate",
    "minority_share",
    "stereotype",
    "stereotype_score",
    "correlation",
    "correlation_with_truth",
    "correlation_with_bergsma",
    "amplification_slope",
    "amplification_intercept",
    "log_odds_ratio",
    "perplexity_male",
    "perplexity_female",
    "perplexity_neutral",
    "tie_rate",
    "stereotype_per_character",
    *(f"probability_{form}_per_token" for form in ("male", "female", "neutral", "pro")),
    "preference_pro_per_token",
)
BESIDE = (  # another normalisation or order: in tables, not in charts
    "left_to_right_excess",
    "most_confident_first_excess",
    "accuracy_per_character",
    "accuracy_per_token",
)

DRAWN_APART = ("probability_male", "probability_female", "probability_neutral", "predicted_", "perplexity_")  # metrics

_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """How a member is drawn. Okabe-Ito colours; a conversion has the light shade of its target and a dashed line."""

    colour: str
    line: Any  # a matplotlib line style
    marker: str
    filled: bool


_LOOKS = {
    "encoder": Look("#0072B2", "-", "o", True),
    "decoder": Look("#D55E00", "-", "s", True),
    "enc-from-dec": Look("#56B4E9", (0, (4, 2)), "o", False),
    "dec-from-enc": Look("#E69F00", (0, (4, 2)), "s", False),
}
_SPARE_LOOKS = (
    Look("#009E73", "-", "^", True),
    Look("#CC79A7", "-", "D", True),
    Look("#000000", ":", "v", True),
    Look("#0072B2", "-", "o", False),
    Look("#D55E00", "-", "s", False),
    Look("#56B4E9", "-", "P", True),
    Look("#E69F00", "-", "X", True),
    Look("#999999", "--", "o", True),
)
_SERIES = tuple(
    Look(colour, "-", marker, True)
    for colour, marker in zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999"),
        "os^DvPX*",
        strict=True,
    )
)

GENDERS = {"male": "#117733", "neutral": "#DDDDDD", "female": "#882255"}


class ProtocolText(NamedTuple):
    """What readers see of a protocol."""

    name: str
    meaning: str


_PROTOCOLS = {
    "training": ProtocolText(
        "Training",
        "The mean loss of the last twentieth of the logged steps. Losses of other objectives or mask rates are other tasks: "
        "they cannot be compared.",
    ),
    "heldout_clm": ProtocolText(
        "Held-out text, next token",
        "Every token of held-out text is predicted from the tokens before it; causal members only. The reference is the "
        "entropy of the text, where the generator makes it known.",
    ),
    "heldout_likelihood.left_to_right": ProtocolText(
        "Likelihood, read from left to right",
        "Bits per byte of the same beginnings of documents for every member, each token after those before it; of a masked "
        "member with masks behind.",
    ),
    "heldout_likelihood.most_confident_first": ProtocolText(
        "Likelihood, most confident token first",
        "The same texts with the number of tokens given; masked members reveal the token whose prediction is surest.",
    ),
    "heldout_likelihood.any_order": ProtocolText(
        "Likelihood, all orders",
        "Short texts by the exact mean probability over all reading orders, and the bits per byte that two orders are above it.",
    ),
    "validation_clm": ProtocolText("Validation text, next token", "What choices are made on; no report tells of it."),
    "validation_mlm": ProtocolText("Validation text, masked token", "What choices are made on; no report tells of it."),
    "validation_ahead": ProtocolText(
        "Validation text, token further on", "What choices are made on; no report tells of it."
    ),
    "heldout_mlm": ProtocolText(
        "Held-out text, masked token",
        "Masked tokens of held-out text are predicted from both sides; bidirectional members only. The reference is the "
        "accuracy of always naming the most frequent token.",
    ),
    "heldout_ahead": ProtocolText(
        "Held-out text, token further on",
        "Every token of held-out text is predicted from the tokens up to so many before it as the objective predicts ahead; "
        "not comparable with the loss of the next token.",
    ),
    "minimal_pairs.left_to_right": ProtocolText(
        "Minimal pairs, left to right",
        "The acceptable sentence of a pair must be the more probable one, token by token from the left. Chance is 0.5.",
    ),
    "minimal_pairs.pseudo_likelihood": ProtocolText(
        "Minimal pairs, pseudo-likelihood",
        "The same pairs; the tokens of each word are masked together and predicted from both sides. Chance is 0.5.",
    ),
    "minimal_pairs.token_pseudo_likelihood": ProtocolText(
        "Minimal pairs, pseudo-likelihood by token",
        "The same pairs; each token is masked alone, as first published, which favours words of several tokens.",
    ),
    "minimal_pairs.own_scoring": ProtocolText(
        "Minimal pairs, own scoring",
        "The same items, each member scored the way that suits it: left to right if causal, pseudo-likelihood if not.",
    ),
    "facts.left_to_right": ProtocolText(
        "Facts, left to right",
        "The true answer must be the most probable of the candidates, scored from the left. The reference is chance.",
    ),
    "facts.pseudo_likelihood": ProtocolText(
        "Facts, pseudo-likelihood",
        "The same questions; the answer is masked and predicted from both sides. The reference is chance.",
    ),
    "facts.own_scoring": ProtocolText(
        "Facts, own scoring",
        "The same questions, each member scored the way that suits it: left to right if causal, pseudo-likelihood if not.",
    ),
    "pronouns": ProtocolText(
        "Pronouns",
        "The probability of a male, female or neutral pronoun where an occupation is the only cue. The reference is the "
        "true share, where it is known.",
    ),
    "agreement": ProtocolText(
        "Agreement, at the pronoun",
        "The estimator of the pronoun probes on pairs whose right answer is grammar: what bias is to be read beside.",
    ),
    "winobias": ProtocolText(
        "WinoBias",
        "Which of two sentences is expected, the one whose pronoun fits the stereotype of an occupation (pro) or the other.",
    ),
    "crows_pairs.shared_tokens": ProtocolText(
        "CrowS-Pairs, shared tokens",
        "How often the more stereotyping of two sentences is the likelier one, by the tokens that both have.",
    ),
    "crows_pairs.sentence": ProtocolText(
        "CrowS-Pairs, whole sentences",
        "How often the more stereotyping of two sentences is the likelier one, by all of its tokens.",
    ),
    "stereoset": ProtocolText(
        "StereoSet",
        "Whether meaningful sentences beat unrelated ones, and stereotypes anti-stereotypes, by mean log-probability.",
    ),
    "winogender@published_encoder": ProtocolText(
        "Winogender, as published for encoders",
        "Pronouns among the twenty likeliest tokens at one mask, on sentences that defy the statistics.",
    ),
    "winogender@published_decoder": ProtocolText(
        "Winogender, as published for decoders",
        "The lowest perplexity of three rewritten sentences, on sentences that defy the statistics.",
    ),
}
_FAMILIES = {  # by what stands before the first dot
    "finetune": ProtocolText(
        "Fine-tuned",
        "The same grid of trials for every member; the setting that dev prefers, its test score in the median over seeds.",
    ),
    "mteb": ProtocolText(
        "Embeddings",
        "MTEB's own score of pooled states; contrastive: after the same grid of fine-tuning for every member.",
    ),
    "lm_eval": ProtocolText(
        "lm-eval",
        "The harness's own score; decoders answer by the conditional probability, encoders by the protocol named.",
    ),
}
_METRICS = {
    "bits_per_token": "bits/token",
    "bits_per_byte": "bits/byte",
    "probability_male": "p(male)",
    "probability_female": "p(female)",
    "probability_neutral": "p(neutral)",
    "absolute_error": "absolute error of p(female)",
    "correlation_with_truth": "correlation with labour statistics or the known shares",
    "correlation_with_bergsma": "correlation with shares in text (Bergsma)",
    "accuracy_per_character": "accuracy by mean per character",
    "accuracy_per_token": "accuracy by mean per token",
    "tie_rate": "ties",
}
_UNITS = {
    "loss": "nats per token",
    "bits_per_token": "bits",
    "bits_per_byte": "bits",
    "accuracy": "share correct",
    "absolute_error": "probability, or correlation",
}
_OBJECTIVES = {
    "mlm": "Masked-token loss (MLM)\nnats per masked token",
    "clm": "Next-token loss (CLM)\nnats per predicted token",
    "mntp": "Masked next-token loss (MNTP)\nnats per masked token",
}


def applied() -> AbstractContextManager[None]:
    """The settings of matplotlib with which figures are drawn and saved."""
    return matplotlib.rc_context(_SETTINGS | {"font.family": labels.families()})


def members_first(members: set[str]) -> list[str]:
    """The four members of a complete study in their order, whether present or not, then any other present one."""
    return [*MEMBERS, *sorted(members - set(MEMBERS))]


def look(member: str, others: list[str]) -> Look:
    """How to draw a member; one outside the four takes a spare look by its place among `others`."""
    if member in _LOOKS:
        return _LOOKS[member]
    return _SPARE_LOOKS[[name for name in others if name not in _LOOKS].index(member) % len(_SPARE_LOOKS)]


def series(number: int) -> Look:
    """How the lines of a figure are drawn that stand for levels of a factor, by their number."""
    return _SERIES[number % len(_SERIES)]


def protocol_name(protocol: str) -> str:
    """The readable name of a protocol."""
    if protocol in _PROTOCOLS:
        return _PROTOCOLS[protocol].name
    family, _, rest = protocol.partition(".")
    if family in _FAMILIES:
        return f"{_FAMILIES[family].name}, {_plain(rest).replace('.', ', ')}"
    return _plain(protocol).capitalize()


def question_name(question: str) -> str:
    """The readable name of what was asked, whichever way."""
    family, _, rest = question.partition(".")
    if family in _FAMILIES:
        return _FAMILIES[family].name + (f", {_plain(rest)}" if rest else "")
    if question in _PROTOCOLS:
        return _PROTOCOLS[question].name
    first = next((text.name for name, text in _PROTOCOLS.items() if name.startswith(f"{question}.")), _plain(question))
    return first.partition(",")[0].capitalize() if first == _plain(question) else first.partition(",")[0]


def protocol_meaning(protocol: str) -> str:
    """What a protocol measures, in a sentence or two."""
    known = _PROTOCOLS.get(protocol) or _FAMILIES.get(protocol.partition(".")[0])
    return known.meaning if known else "See the protocol's definition in docs/evaluation.md."


def metric_name(metric: str) -> str:
    """The readable name of a metric."""
    return _METRICS.get(metric, _plain(metric))


def metric_unit(metric: str) -> str:
    """The unit of a metric, which is also what may share an axis."""
    return _UNITS.get(metric, _UNITS["absolute_error"] if "correlation" in metric else _plain(metric))


def objective_axis(objective: str) -> str:
    """The axis label of a training loss; it says which loss, because losses of two objectives cannot be compared."""
    return _OBJECTIVES.get(objective, f"Loss of {objective}\nnats per loss-bearing token")


def arrow(metric: str, higher_is_better: bool) -> str:
    """Which way is better."""
    return "" if metric in UNORDERED else " ↑" if higher_is_better else " ↓"


def order(protocol: str, task: str, metric: str) -> tuple[int, str, bool, str, int, str]:
    """The sorting key of a measurement: known protocols and metrics first, the task "all" last."""
    protocols, metrics = list(_PROTOCOLS), list(_METRICS)
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
