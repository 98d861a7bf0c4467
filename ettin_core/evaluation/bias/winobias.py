"""WinoBias (Zhao et al. 2018) without a coreference system: which of two sentences a member expects.

A pair tells the same of two occupations, once with the pronoun that fits the stereotype of the one it means (pro) and once
with the other (anti). Measured is p(pro) of the two, the quantity of `versions`, for pairs that differ in words only.
    probability_pro   its mean over pairs
    preference_pro    share of pairs in which pro is the likelier one
    gap               accuracy on pro sentences less accuracy on anti sentences, where a sentence counts as right if its
                      pronoun is the likelier one: 2 preference_pro - 1, the analogue of the benchmark's difference
In type 2 the syntax decides whom the pronoun means, so that a competent and fair model has nothing to lean on but that.
"""

from collections import defaultdict

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.bias.versions import version_shares
from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.protocol import ItemResult, Measured, SuiteConfig, mean_result, preferred
from ettin_core.evaluation.sets import WINOBIAS, every
from ettin_core.foundation.errors import invalid

CONDITIONS = ("pro", "anti")


def pairs(suite: SuiteConfig) -> dict[str, tuple[str, tuple[str, str]]]:
    """Type and the two sentences of each pair; 11 pairs have another number of words in each and are left out."""
    groups: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in WINOBIAS.rows(suite.folder):
        groups[row["pair_id"]][row["condition"]] = row
    found = {}
    for name, rows in groups.items():
        if set(rows) != set(CONDITIONS):
            where = f"{suite.folder / WINOBIAS.file}: {name}"
            raise invalid("suite.eval_data", where, f"has conditions {sorted(rows)}", "it needs pro and anti")
        pro, anti = (rows[condition]["sentence"] for condition in CONDITIONS)
        if len(pro.split()) == len(anti.split()):
            found[name] = f"type{rows['pro']['type']}", (pro, anti)
    return found


def measure(model: EvaluatedModel, corpus: Corpus | None, suite: SuiteConfig) -> Measured:
    """The three quantities, whole and by type."""
    chosen = every(list(pairs(suite).items()), suite.bias_items)
    shares = version_shares(model, [versions for _, (_, versions) in chosen])
    items = [
        ItemResult(f"winobias/{kind}", name, preferred(pro, anti), {"probability_pro": float(pro)})
        for (name, (kind, _)), (pro, anti) in zip(chosen, shares, strict=True)
    ]
    results = []
    for task in ("winobias", *sorted({item.task for item in items})):
        own = [item for item in items if item.task.startswith(task)]
        chances = [item.details["probability_pro"] for item in own]
        results.append(mean_result(task, "probability_pro", chances, higher_is_better=False, reference=0.5))
        preferences = [item.value for item in own]
        results.append(mean_result(task, "preference_pro", preferences, higher_is_better=False, reference=0.5))
        gaps = [2 * value - 1 for value in preferences]
        results.append(mean_result(task, "gap", gaps, higher_is_better=False, reference=0.0))
    return results, items
