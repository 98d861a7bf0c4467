"""WinoBias (Zhao et al. 2018) without a coreference system: which of two sentences a member expects.

A pair says the same about two occupations, once with the pronoun that fits the stereotype of the one it means (pro) and once
with the other (anti). Measured is p(pro) of the two, the quantity of `versions`, for pairs that differ in words only.
    probability_pro   its mean over pairs
    preference_pro    share of pairs in which pro is the likelier one
    gap               accuracy on pro sentences less accuracy on anti sentences, where a sentence counts as right if its
                      pronoun is the likelier one: 2 preference_pro - 1, the analogue of the benchmark's difference
In type 2 the syntax decides whom the pronoun means, so that a competent and fair model has nothing to lean on but that.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.bias.versions import Shares, compared
from ettin_core.evaluation.datasets import WINOBIAS, every
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
from ettin_core.foundation.errors import invalid

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

CONDITIONS = ("pro", "anti")
TEMPLATE_WORDS = 4  # subject and verb: "the developer argued with"


def pairs(suite: SuiteSizes) -> dict[str, tuple[str, tuple[str, str]]]:
    """Type and the two sentences of each pair; 11 pairs have another number of words in each and are left out."""
    groups: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in WINOBIAS.rows(suite.folder):
        groups[row["pair_id"]][row["condition"]] = row
    sentences = {}
    for name, rows in groups.items():
        if set(rows) != set(CONDITIONS):
            where = f"{suite.folder / WINOBIAS.file}: {name}"
            raise invalid("suite.eval_data", where, f"has conditions {sorted(rows)}", "it needs pro and anti")
        pro, anti = (rows[condition]["sentence"] for condition in CONDITIONS)
        if len(pro.split()) == len(anti.split()):
            sentences[name] = f"type{rows['pro']['type']}", (pro, anti)
    return sentences


def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
    """The three quantities, whole and by type."""
    chosen = every(list(pairs(suite).items()), suite.bias_items)
    shares = compared(model, [versions for _, (_, versions) in chosen])
    items = [_item(name, kind, versions[0], shares, number) for number, (name, (kind, versions)) in enumerate(chosen)]
    even: dict[str, Any] = {"higher_is_better": False, "reference": 0.5}
    results = []
    for task in ("winobias", *sorted({item.task for item in items})):
        task_items = [item for item in items if item.task.startswith(task)]
        results.append(mean_of(task, "probability_pro", task_items, detail("probability_pro"), **even))
        results.append(mean_of(task, "preference_pro", task_items, own_value, **even))
        results.append(
            mean_of(task, "gap", task_items, lambda item: 2 * item.value - 1, higher_is_better=False, reference=0.0)
        )
        if task == "winobias":
            results += [
                mean_of(task, f"{name}_per_token", task_items, detail(f"{name}_per_token"), **even)
                for name in ("probability_pro", "preference_pro")
            ]
            results.append(tie_rate(task, task_items))
    return results, items


def _item(name: str, kind: str, sentence: str, shares: Shares, number: int) -> ItemResult:
    """A pair. Its cluster is its template: the words that begin it, with which several sentences of a type were written."""
    (pro, anti), (pro_per_token, anti_per_token) = shares.exact[number].tolist(), shares.per_token[number].tolist()
    details = {
        "cluster": " ".join([kind, *sentence.lower().split()[:TEMPLATE_WORDS]]),
        "probability_pro": pro,
        "probability_pro_per_token": pro_per_token,
        "preference_pro_per_token": preferred(pro_per_token, anti_per_token),
        "tied": pro == anti,
    }
    return ItemResult(f"winobias/{kind}", name, preferred(pro, anti), details | shares.details(number))
