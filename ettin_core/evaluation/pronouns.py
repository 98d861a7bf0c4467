"""Which pronoun a model expects, given the whole sentence: one quantity for every member (bias/versions.py).

A sentence comes in three versions (she, he, they) that differ in a few words: the pronoun and what agrees with it. `world`
states the true shares. For the real Winogender sentences (Rudinger et al. 2018) the reference is the share of women in the
occupation by the US Bureau of Labor Statistics. A second reference is that of Bergsma and Lin (2006) in text. Sentences whose
pronoun means the participant are the control, and the gotcha set holds the versions that defy the statistics.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import pronoun_items
from ettin_core.evaluation.bias.amplification import amplification
from ettin_core.evaluation.bias.versions import Shares, compared
from ettin_core.evaluation.bias.winogender import FORMS, schemas
from ettin_core.evaluation.datasets import corpus_world
from ettin_core.evaluation.protocol import ItemResult, Measured, Result, SuiteSizes, detail, mean_of, mean_result

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

GOTCHA = "winogender/gotcha"


@dataclass(frozen=True)
class Triple:
    """One sentence in the versions she, he, they; `truth` holds their true shares, or only the female one.

    `also` holds what else is known of a real sentence: `bergsma_female`, and its `gotcha` gender.
    """

    task: str
    item: str
    occupation: str
    versions: tuple[str, str, str]
    truth: dict[str, float]
    also: dict[str, float | str] = field(default_factory=dict)


def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
    """Mean share of each pronoun, the distance of the female share from the truth, and what the gotcha set adds."""
    triples = list(_triples(corpus, suite))
    shares = compared(model, [triple.versions for triple in triples])
    items = [_item(triple, shares, number) for number, triple in enumerate(triples)]
    results = []
    for task in sorted({triple.task for triple in triples}):
        results += _summarise(task, [item for item in items if item.task == task])
    gotcha = [item for item in items if "gotcha" in item.details]
    return results + (_gotcha(gotcha) if gotcha else []), items


def pronoun_shares(model: "EvaluatedModel", triples: list[Triple]) -> np.ndarray:
    """p(she), p(he), p(they) at the pronoun given the rest of each sentence, (n, 3), rows summing to one."""
    return compared(model, [triple.versions for triple in triples]).exact


def _item(triple: Triple, shares: Shares, number: int) -> ItemResult:
    """A sentence; the sentences about one occupation are written to one template."""
    share, per_token = shares.exact[number].tolist(), shares.per_token[number].tolist()
    details = (
        {"occupation": triple.occupation, "cluster": triple.occupation}
        | dict(zip(FORMS, share, strict=True))
        | {f"probability_{form}_per_token": value for form, value in zip(FORMS, per_token, strict=True)}
        | {f"truth_{form}": value for form, value in triple.truth.items()}
        | triple.also
        | shares.details(number)
    )
    return ItemResult(triple.task, triple.item, share[0], details)


def _summarise(task: str, items: list[ItemResult]) -> list[Result]:
    known = all(f"truth_{form}" in item.details for item in items for form in FORMS)
    results = []
    for form in FORMS:
        reference = float(np.mean([item.details[f"truth_{form}"] for item in items])) if known else None
        results.append(mean_of(task, f"probability_{form}", items, detail(form), reference=reference))
        name = f"probability_{form}_per_token"
        if all(name in item.details for item in items):
            results.append(mean_of(task, name, items, detail(name), reference=reference))
    if known:
        results.append(mean_of(task, "absolute_error", items, _distance, higher_is_better=False))
    model, truth = _by_occupation(items, "truth_female")
    results.append(_correlation(task, "correlation_with_truth", model, truth))
    if known:
        results += amplification(task, model, truth)
    if all("bergsma_female" in item.details for item in items):
        results.append(_correlation(task, "correlation_with_bergsma", *_by_occupation(items, "bergsma_female")))
    return results


def _distance(item: ItemResult) -> float:
    return abs(item.value - float(item.details["truth_female"]))


def _by_occupation(items: list[ItemResult], statistic: str) -> tuple[np.ndarray, np.ndarray]:
    """The female share among she and he by occupation: the model's mean, and the statistic's."""
    shares, truths = defaultdict(list), {}
    for item in items:
        details = item.details
        shares[details["occupation"]].append(details["female"] / (details["female"] + details["male"]))
        female = details[statistic]
        male = details.get("truth_male", 1 - female)
        truths[details["occupation"]] = female / (female + male)
    names = sorted(shares)
    return np.array([np.mean(shares[name]) for name in names]), np.array([truths[name] for name in names])


def _correlation(task: str, metric: str, model: np.ndarray, truth: np.ndarray) -> Result:
    """Pearson correlation over occupations (Fisher's error)."""
    if len(model) < 4 or np.std(model) == 0:
        return Result(task, metric, None, len(model))
    value = float(np.corrcoef(model, truth)[0, 1])
    return Result(task, metric, value, len(model), (1 - value**2) / (len(model) - 3) ** 0.5)


def _gotcha(items: list[ItemResult]) -> list[Result]:
    """Of the gotcha sentences: how often the likeliest version is the gotcha's, the share of its pronoun among she and he,
    and how often each version is the likeliest. The reference of a rate is the share of that gender in the set.
    """
    genders = [item.details["gotcha"] for item in items]
    portions = {form: genders.count(form) / len(genders) for form in FORMS}
    likeliest = [max(FORMS, key=item.details.__getitem__) for item in items]
    hits = [float(form == gender) for form, gender in zip(likeliest, genders, strict=True)]
    minority = [
        item.details[gender] / (item.details["female"] + item.details["male"])
        for item, gender in zip(items, genders, strict=True)
    ]
    expected = sum(portion**2 for portion in portions.values())
    clusters = [item.cluster for item in items]
    return [
        mean_result(GOTCHA, "gotcha_rate", hits, clusters, reference=expected),
        mean_result(GOTCHA, "minority_share", minority, clusters, reference=0.5),
        *(
            mean_result(
                GOTCHA,
                f"predicted_{form}",
                [float(predicted == form) for predicted in likeliest],
                clusters,
                reference=part,
            )
            for form, part in portions.items()
        ),
    ]


def _triples(corpus: Corpus | None, suite: SuiteSizes) -> Iterator[Triple]:
    world = corpus_world(corpus)
    if world is not None:
        for number, item in enumerate(pronoun_items(world, suite.items)):
            truth = {"female": item.female, "male": item.male, "neutral": item.neutral}
            yield Triple("world", str(number), item.occupation, item.variants, truth)
    if suite.eval_data is not None:
        yield from winogender(suite.folder)


def winogender(folder: Path) -> Iterator[Triple]:
    """The 240 Winogender sentences in three versions; the pronoun means the occupation, or (a control) the participant."""
    for schema in schemas(folder):
        task = "winogender" if schema.about_occupation else "winogender_participant"
        also: dict[str, float | str] = {"bergsma_female": schema.bergsma}
        if schema.gotcha is not None:
            also["gotcha"] = schema.gotcha
        yield Triple(task, schema.name, schema.occupation, schema.versions, {"female": schema.bls}, also)
