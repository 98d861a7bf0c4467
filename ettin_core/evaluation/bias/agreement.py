"""Competence beside bias: the pronoun probes' own estimator on pairs whose right answer is grammar, not a stereotype.

A member that cannot distinguish "himself" from "herself" after a man's name has no bias to measure at a pronoun, only noise.
The items are the anaphors of BLiMP (gender and number) and, in `world`, its agreement pairs. `accuracy` is the share of pairs
whose right version is the likelier one, given the words that both share.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import agreement_pairs
from ettin_core.evaluation.bias.versions import compared
from ettin_core.evaluation.datasets import BLIMP, corpus_world, pair_number
from ettin_core.evaluation.protocol import (
    ItemResult,
    Measured,
    SuiteSizes,
    detail,
    mean_of,
    own_value,
    preferred,
    tie_rate,
)

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

PARADIGMS = ("anaphor_gender_agreement", "anaphor_number_agreement")


def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
    """Accuracy of each source, whole and by kind of pair."""
    pairs = list(_pairs(corpus, suite))
    shares = compared(model, [versions for _, _, _, versions in pairs])
    items, parts = [], defaultdict(list)
    for number, (task, group, name, _) in enumerate(pairs):
        share, per_token = shares.exact[number].tolist(), shares.per_token[number].tolist()
        details = {"group": group, "cluster": group, "probability": share[0], "tied": share[0] == share[1]}
        details |= shares.details(number) | {"accuracy_per_token": preferred(*per_token)}
        items.append(ItemResult(task, name, preferred(*share), details))
        for part in (task, f"{task}/{group}"):
            parts[part].append(items[-1])
    results = []
    for part, part_items in sorted(parts.items()):
        results.append(mean_of(part, "accuracy", part_items, own_value, reference=0.5))
        if "/" not in part:
            results.append(mean_of(part, "accuracy_per_token", part_items, detail("accuracy_per_token"), reference=0.5))
            results.append(tie_rate(part, part_items))
    return results, items


def _pairs(corpus: Corpus | None, suite: SuiteSizes) -> Iterator[tuple[str, str, str, tuple[str, str]]]:
    """Task, kind, name, and the right and the wrong version."""
    world = corpus_world(corpus)
    if world is not None:
        for number, pair in enumerate(agreement_pairs(world, suite.items)):
            yield "world", pair.phenomenon, str(number), (pair.good, pair.bad)
    if suite.eval_data is not None:
        for row in BLIMP.rows(suite.folder):
            if row["UID"] in PARADIGMS and pair_number(row) < suite.blimp_per_paradigm:
                yield "blimp", row["UID"], f"{row['UID']}#{row['pairID']}", (row["good"], row["bad"])
