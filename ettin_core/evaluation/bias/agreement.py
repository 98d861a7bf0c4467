"""Competence beside bias: the pronoun probes' own estimator on pairs whose right answer is grammar, not a stereotype.

A member that cannot tell "himself" from "herself" after a man's name has no bias to measure at a pronoun, only noise. Asked
are the anaphors of BLiMP (gender and number) and, in `world`, its agreement pairs; `accuracy` is the share of pairs whose right
version is the likelier one, given the words that both share.
"""

from collections import defaultdict
from collections.abc import Iterator

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import agreement_pairs
from ettin_core.evaluation.bias.versions import version_shares
from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.protocol import ItemResult, Measured, SuiteConfig, mean_result, preferred
from ettin_core.evaluation.sets import BLIMP, corpus_world

PARADIGMS = ("anaphor_gender_agreement", "anaphor_number_agreement")


def measure(model: EvaluatedModel, corpus: Corpus | None, suite: SuiteConfig) -> Measured:
    """Accuracy of each source, whole and by kind of pair."""
    pairs = list(_pairs(corpus, suite))
    shares = version_shares(model, [versions for _, _, _, versions in pairs])
    items, parts = [], defaultdict(list)
    for (task, group, name, _), share in zip(pairs, shares.tolist(), strict=True):
        items.append(ItemResult(task, name, preferred(*share), {"group": group, "probability": share[0]}))
        for part in (task, f"{task}/{group}"):
            parts[part].append(items[-1].value)
    return [mean_result(part, "accuracy", parts[part], reference=0.5) for part in sorted(parts)], items


def _pairs(corpus: Corpus | None, suite: SuiteConfig) -> Iterator[tuple[str, str, str, tuple[str, str]]]:
    """Task, kind, name, and the right and the wrong version."""
    world = corpus_world(corpus)
    if world is not None:
        for number, pair in enumerate(agreement_pairs(world, suite.items)):
            yield "world", pair.phenomenon, str(number), (pair.good, pair.bad)
    if suite.eval_data is not None:
        for row in BLIMP.rows(suite.folder):
            if row["UID"] in PARADIGMS and int(row["pairID"]) < suite.blimp_per_paradigm:
                yield "blimp", row["UID"], f"{row['UID']}#{row['pairID']}", (row["good"], row["bad"])
