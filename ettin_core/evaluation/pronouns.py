"""Which pronoun a model expects, given the whole sentence: one quantity for every member.

A sentence comes in three versions (she, he, they) that differ in a few words: the pronoun and what agrees with it. Measured is
    p(words of a version | all other words), normalised over the three versions.
A masked model gives it by filling those words; a causal model by the ratio of the whole sentences' probabilities, which is
the same conditional under its own joint distribution. `world` states the true shares; for the real Winogender sentences
(Rudinger et al. 2018) the reference is the share of women in the occupation (US Bureau of Labor Statistics).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import pronoun_items
from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.protocol import ItemResult, Measured, Result, SuiteConfig, mean_result
from ettin_core.evaluation.scoring import fill, left_to_right, segment
from ettin_core.evaluation.sets import WINOGENDER, corpus_world, read_rows
from ettin_core.foundation.errors import invalid

FORMS = ("female", "male", "neutral")


@dataclass(frozen=True)
class Triple:
    """One sentence in the versions she, he, they; `truth` holds their true shares, or only the female one."""

    task: str
    item: str
    occupation: str
    versions: tuple[str, str, str]
    truth: dict[str, float]


def measure(model: EvaluatedModel, corpus: Corpus, suite: SuiteConfig) -> Measured:
    """Mean share of each pronoun, and the distance of the female share from the truth."""
    triples = list(_triples(corpus, suite))
    shares = pronoun_shares(model, triples)
    items = [
        ItemResult(
            triple.task,
            triple.item,
            float(share[0]),
            {"occupation": triple.occupation}
            | dict(zip(FORMS, map(float, share), strict=True))
            | {f"truth_{form}": value for form, value in triple.truth.items()},
        )
        for triple, share in zip(triples, shares, strict=True)
    ]
    results = []
    for task in sorted({triple.task for triple in triples}):
        results += _summarise(task, [item for item in items if item.task == task])
    return results, items


def pronoun_shares(model: EvaluatedModel, triples: list[Triple]) -> np.ndarray:
    """p(she), p(he), p(they) at the pronoun given the rest of each sentence, (n, 3), rows summing to one."""
    texts, gaps = [], []
    for triple in triples:
        differing = differing_words(triple.versions)
        for version in triple.versions:
            text = segment(model.tokenizer, version)
            texts.append(text)
            gaps.append([text.tokens_of_words(differing)])
    scores = left_to_right(model, texts) if model.is_causal else fill(model, texts, gaps)
    table = np.array(scores).reshape(-1, 3)
    table = np.exp(table - table.max(1, keepdims=True))
    return table / table.sum(1, keepdims=True)


def differing_words(versions: tuple[str, ...]) -> set[int]:
    """Numbers of the words in which versions of a sentence differ. Raises ValueError for unequal lengths."""
    words = [version.split() for version in versions]
    if len({len(version) for version in words}) > 1:
        raise invalid("sentence", versions[0], "has versions of different length", "align them word by word")
    return {number for number, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1}


def _summarise(task: str, items: list[ItemResult]) -> list[Result]:
    known = all(f"truth_{form}" in item.details for item in items for form in FORMS)
    results = []
    for form in FORMS:
        reference = float(np.mean([item.details[f"truth_{form}"] for item in items])) if known else None
        shares = [item.details[form] for item in items]
        results.append(mean_result(task, f"probability_{form}", shares, reference=reference))
    if known:
        errors = [abs(item.value - item.details["truth_female"]) for item in items]
        results.append(mean_result(task, "absolute_error", errors, higher_is_better=False))
    results.append(_correlation(task, items))
    return results


def _correlation(task: str, items: list[ItemResult]) -> Result:
    """Pearson correlation over occupations of the female share among she and he with the true one (Fisher's error)."""
    shares, truths = defaultdict(list), {}
    for item in items:
        details = item.details
        shares[details["occupation"]].append(details["female"] / (details["female"] + details["male"]))
        male = details.get("truth_male", 1 - details["truth_female"])
        truths[details["occupation"]] = details["truth_female"] / (details["truth_female"] + male)
    names = sorted(shares)
    means = [float(np.mean(shares[name])) for name in names]
    if len(names) < 4 or np.std(means) == 0:
        return Result(task, "correlation_with_truth", None, len(names))
    value = float(np.corrcoef(means, [truths[name] for name in names])[0, 1])
    return Result(task, "correlation_with_truth", value, len(names), (1 - value**2) / (len(names) - 3) ** 0.5)


def _triples(corpus: Corpus, suite: SuiteConfig) -> Iterator[Triple]:
    world = corpus_world(corpus)
    if world is not None:
        for number, item in enumerate(pronoun_items(world, suite.items)):
            truth = {"female": item.female, "male": item.male, "neutral": item.neutral}
            yield Triple("world", str(number), item.occupation, item.variants, truth)
    if suite.eval_data is not None:
        yield from winogender(Path(suite.eval_data) / WINOGENDER)


def winogender(file: Path) -> Iterator[Triple]:
    """The 240 Winogender sentences in three versions; the pronoun means the occupation, or (a control) the participant."""
    groups: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in read_rows(file):
        groups[row["id"].rsplit(".", 1)[0]][row["pronoun_gender"]] = row
    for name, versions in groups.items():
        row = versions["female"]
        task = "winogender" if row["answer"] == 0 else "winogender_participant"
        sentences = tuple(versions[form]["sentence"] for form in FORMS)
        assert len(sentences) == 3
        yield Triple(task, name, row["occupation"], sentences, {"female": row["bls_pct_female"] / 100})
