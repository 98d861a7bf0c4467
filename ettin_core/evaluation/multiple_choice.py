"""Choosing the right text: minimal pairs and facts, by log-probability, with the estimators of `scoring`.

BLiMP (Warstadt et al. 2020) is reported whole, by field (`blimp/<field>`), by phenomenon (`blimp/phenomenon/<term>`) and by
paradigm (`blimp/paradigm/<UID>`).

Compared are sums of log-probabilities, to which every further token adds. `accuracy_per_character` compares them by the
characters of each option, as lm-eval's `acc_norm` does; `tie_rate` is the share of questions that a guess decided.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import agreement_pairs, fact_items
from ettin_core.evaluation.datasets import BLIMP, corpus_world, pair_number
from ettin_core.evaluation.protocol import (
    ItemResult,
    Measure,
    Measured,
    Result,
    SuiteSizes,
    detail,
    mean_of,
    own_value,
    tie_rate,
)
from ettin_core.evaluation.scoring import Segmented, fill, left_to_right, pseudo_likelihood, segment

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

PER_CHARACTER = "accuracy_per_character"


@dataclass(frozen=True)
class Choice:
    """A question: prefix + each option + suffix; it is reported under its `group`, and `also` under others.

    Items of one `cluster` are not independent (None: every item is its own).
    """

    task: str
    group: str
    item: str
    prefix: str
    options: tuple[str, ...]
    suffix: str
    answer: int
    also: tuple[str, ...] = ()
    cluster: str | None = None


def minimal_pairs(estimator: str) -> Measure:
    """Share of pairs whose acceptable sentence is the likelier one."""

    def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
        return answered(model, list(_pairs(corpus, suite)), whole_text(estimator))

    return measure


def facts(estimator: str) -> Measure:
    """Share of facts whose true value is the likeliest of all values of the relation."""

    def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
        return answered(model, list(_facts(corpus, suite)), option_only(estimator))

    return measure


ChoiceScorer = Callable[["EvaluatedModel", list[Choice]], list[list[float]]]


def whole_text(estimator: str) -> ChoiceScorer:
    """log p of the whole text."""

    def score(model: "EvaluatedModel", texts: list[Segmented]) -> list[float]:
        return (
            left_to_right(model, texts) if estimator == "left_to_right" else pseudo_likelihood(model, texts, estimator)
        )

    def scores(model: "EvaluatedModel", choices: list[Choice]) -> list[list[float]]:
        texts = [
            segment(model.tokenizer, choice.prefix + option + choice.suffix)
            for choice in choices
            for option in choice.options
        ]
        return _regroup(score(model, texts), choices)

    return scores


def option_only(estimator: str) -> ChoiceScorer:
    """log p(option | prefix), or for masked models log p(option | prefix, suffix)."""

    def scores(model: "EvaluatedModel", choices: list[Choice]) -> list[list[float]]:
        texts, gaps = [], []
        for choice in choices:
            for option in choice.options:
                text = segment(model.tokenizer, choice.prefix + option + choice.suffix)
                texts.append(text)
                gaps.append(text.tokens_between(len(choice.prefix), len(choice.prefix + option)))
                assert gaps[-1], f"no token ends within {option!r}"  # an empty gap would cost nothing and win
        if estimator == "left_to_right":
            return _regroup(left_to_right(model, texts, gaps), choices)
        return _regroup(fill(model, texts, [[gap] for gap in gaps]), choices)

    return scores


def _regroup(values: list[float], choices: list[Choice]) -> list[list[float]]:
    iterator = iter(values)
    return [[next(iterator) for _ in choice.options] for choice in choices]


def answered(model: "EvaluatedModel", choices: list[Choice], score: ChoiceScorer) -> Measured:
    """Accuracy of each task and of its parts, and the items."""
    results: list[Result] = []
    items = []
    for choice, values in zip(choices, score(model, choices), strict=True):
        lengths = [len(option.strip()) for option in choice.options]
        details: dict[str, Any] = {"group": choice.group, "log_probabilities": [round(value, 5) for value in values]}
        details |= {} if choice.cluster is None else {"cluster": choice.cluster}
        details["tied"] = values.count(max(values)) > 1
        details[PER_CHARACTER] = _credit(np.array(values) / np.maximum(1, lengths), choice.answer)
        items.append(ItemResult(choice.task, choice.item, _credit(np.array(values), choice.answer), details))
    for task in sorted({choice.task for choice in choices}):
        pairs = [(choice, item) for choice, item in zip(choices, items, strict=True) if choice.task == task]
        whole = _accuracy(task, pairs)
        results.append(whole)
        scored = [item for _, item in pairs]
        results.append(mean_of(task, PER_CHARACTER, scored, detail(PER_CHARACTER), reference=whole.reference))
        results.append(tie_rate(task, scored))
        groups: dict[str, list[tuple[Choice, ItemResult]]] = {}
        for pair in pairs:
            for group in (pair[0].group, *pair[0].also):
                groups.setdefault(group, []).append(pair)
        results += [_accuracy(f"{task}/{group}", groups[group]) for group in sorted(groups) if len(groups) > 1]
    return results, items


def _credit(values: np.ndarray, answer: int) -> float:
    """1 where the answer has the highest value; a tie is a guess among the tied."""
    best = values == values.max()
    return float(best[answer] / best.sum())


def _accuracy(task: str, scored: list[tuple[Choice, ItemResult]]) -> Result:
    chance = float(np.mean([1 / len(choice.options) for choice, _ in scored]))
    return mean_of(task, "accuracy", [item for _, item in scored], own_value, reference=chance)


def _pairs(corpus: Corpus | None, suite: SuiteSizes) -> Iterator[Choice]:
    world = corpus_world(corpus)
    if world is not None:
        for number, pair in enumerate(agreement_pairs(world, suite.items)):
            yield Choice(
                "agreement", pair.phenomenon, str(number), "", (pair.good, pair.bad), "", 0, cluster=pair.phenomenon
            )
    if suite.eval_data is not None:
        for row in BLIMP.rows(suite.folder):
            if pair_number(row) < suite.blimp_per_paradigm:
                name = f"{row['UID']}#{row['pairID']}"
                field = row["field"].replace("/", "_")  # one paradigm spells syntax_semantics with a slash
                also = (f"phenomenon/{row['term']}", f"paradigm/{row['UID']}")
                yield Choice("blimp", field, name, "", (row["good"], row["bad"]), "", 0, also, row["UID"])


def _facts(corpus: Corpus | None, suite: SuiteSizes) -> Iterator[Choice]:
    world = corpus_world(corpus)
    if world is not None:
        for number, item in enumerate(fact_items(world, suite.items)):
            question = item.prefix, item.choices, item.suffix, item.answer
            yield Choice(item.frequency, item.relation, str(number), *question, cluster=item.subject)
