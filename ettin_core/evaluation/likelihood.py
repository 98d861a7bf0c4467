"""Bits per byte of the same texts for every member, under a named reading order: never two orders in one column.

A causal model reads a text from left to right. A masked one can read it in any order, and each order that is decided by what
was read before is a chain rule of its own, whose probabilities sum to one:
    left_to_right         every token after those before it (of a masked model with trailing masks: `scoring`)
    most_confident_first  of the tokens still masked, the one at which the likeliest token is the most probable (Ghazvininejad et
                          al. 2019); its place is chosen before the token is seen
    any_order             the mean probability over all orders, exact by dynamic programming over the 2^n patterns of what is
                          masked (texts of a few tokens), and how many bits per byte other orders are above it
In the last two the number of tokens is given, as the number of masks. Texts are the beginnings of the test documents, without
EOS. Errors are over documents.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.heldout import held_out, ratio, ratio_items
from ettin_core.evaluation.protocol import Measure, Measured, SuiteSizes
from ettin_core.evaluation.requests import ScoringRequest
from ettin_core.evaluation.scoring import Segmented, score
from ettin_core.foundation.errors import invalid

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

Texts = list[tuple[int, ...]]
LENGTH, SHARE = 32, 60  # tokens of a text; one in SHARE of suite.heldout_tokens is read, a row or two for each
SHORT, SHORT_SHARE = 8, 7500  # the same for `any_order`, which reads 2^SHORT rows a text
LONGEST = 12  # 4,096 patterns


def in_order(order: str) -> Measure:
    """The protocol of a reading order."""
    read: Callable[[EvaluatedModel, Texts], list[float]] = {
        "left_to_right": left_to_right,
        "most_confident_first": most_confident_first,
    }[order]

    def measure(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
        openings = beginnings(model, corpus, suite, LENGTH, max(2, suite.heldout_tokens // SHARE // LENGTH))
        losses = -np.array(read(model, openings.texts))
        result = ratio(
            openings.name, "bits_per_byte", losses / math.log(2), openings.sizes, int(openings.counts.sum()), False
        )
        return [result], ratio_items(openings.name, openings.counts, losses, openings.sizes, openings.numbers)

    return measure


def measure_any_order(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
    """The exact value on short texts, and how far above it two orders are: masks revealed from the left, and by confidence."""
    short = beginnings(model, corpus, suite, SHORT, max(2, suite.heldout_tokens // SHORT_SHARE), LONGEST)
    tables = [conditionals(model, ids) for ids in short.texts]
    exact = np.array([any_order(table) for table in tables])
    orders = {
        "left_to_right": np.array([along(table, range(table.shape[1])) for table in tables]),
        "most_confident_first": np.array(most_confident_first(model, short.texts)),
    }
    n = int(short.counts.sum())
    results = [ratio(short.name, "bits_per_byte", -exact / math.log(2), short.sizes, n, False)]
    for order, values in orders.items():
        excess = (exact - values) / math.log(2)
        results.append(ratio(short.name, f"{order}_excess", excess, short.sizes, n, False, reference=0.0))
    return results, ratio_items(short.name, short.counts, -exact, short.sizes, short.numbers)


def left_to_right(model: "EvaluatedModel", texts: Texts) -> list[float]:
    """log p (nats) of each text, every token after those before it."""
    whole = [Segmented(ids, (), ()) for ids in texts]
    return [item.log_probability for item in score(model, whole, [tuple(range(len(ids))) for ids in texts])]


def most_confident_first(model: "EvaluatedModel", texts: Texts) -> list[float]:
    """log p (nats) of each text given its length, the token of the surest prediction first (the leftmost of equal ones)."""
    totals = [0.0] * len(texts)
    hidden = [set(range(len(ids))) for ids in texts]
    while active := [number for number, places in enumerate(hidden) if places]:
        rows = [_row(model, texts[number], hidden[number]) for number in active]
        places = [sorted(hidden[number]) for number in active]
        reads = [tuple(model.read_position(place + 1) for place in positions) for positions in places]
        asked = [(row, read) for row, row_reads in zip(rows, reads, strict=True) for read in row_reads]
        likeliest = iter(model.likeliest([row for row, _ in asked], [read for _, read in asked]))
        requests = [
            ScoringRequest(
                row, 2 * row_reads, (*(next(likeliest) for _ in row_reads), *(texts[number][place] for place in at))
            )
            for number, row, row_reads, at in zip(active, rows, reads, places, strict=True)
        ]
        for number, at, values in zip(active, places, model.log_probabilities(requests), strict=True):
            chosen = int(np.argmax(values[: len(at)]))
            totals[number] += float(values[len(at) + chosen])
            hidden[number].remove(at[chosen])
    return totals


def conditionals(model: "EvaluatedModel", ids: tuple[int, ...]) -> np.ndarray:
    """log p (nats) of each token of a text given each pattern of read ones, (2^n, n); bit i of a pattern: token i is read.

    Not a number for tokens that are read. Raises ValueError for more than twelve tokens.
    """
    n = len(ids)
    if n > LONGEST:
        raise invalid("tokens", n, "have more orders than can be summed over", f"give texts of up to {LONGEST} tokens")
    table = np.full((2**n, n), np.nan)
    hidden = [[place for place in range(n) if not pattern >> place & 1] for pattern in range(2**n - 1)]
    requests = [
        ScoringRequest(
            _row(model, ids, set(places)),
            tuple(model.read_position(place + 1) for place in places),
            tuple(ids[place] for place in places),
        )
        for places in hidden
    ]
    for pattern, (places, values) in enumerate(zip(hidden, model.log_probabilities(requests), strict=True)):
        table[pattern, places] = values
    return table


def any_order(table: np.ndarray) -> float:
    """log of the mean over all orders of a text's probability, from its conditionals (2^n, n).

    reached[S] is the log-probability that the tokens of S are read first, each next place drawn evenly from those left.
    """
    patterns, n = table.shape
    reached = np.full(patterns, -np.inf)
    reached[0] = 0.0
    for pattern in range(patterns - 1):
        left = [place for place in range(n) if not pattern >> place & 1]
        for place in left:
            after = pattern | 1 << place
            step = reached[pattern] + table[pattern, place] - math.log(len(left))
            reached[after] = np.logaddexp(reached[after], step)
    return float(reached[-1])


def along(table: np.ndarray, order: range | list[int]) -> float:
    """log p of a text along one order, from its conditionals."""
    pattern, total = 0, 0.0
    for place in order:
        total += float(table[pattern, place])
        pattern |= 1 << place
    return total


def _row(model: "EvaluatedModel", ids: tuple[int, ...], hidden: set[int]) -> tuple[int, ...]:
    special = model.tokenizer.special
    return (special.bos, *(special.mask if place in hidden else token for place, token in enumerate(ids)), special.eos)


@dataclass(frozen=True)
class Beginnings:
    """The beginnings of documents: their tokens, their bytes, the documents' numbers, and the corpus's name."""

    texts: Texts
    sizes: np.ndarray
    numbers: list[int]
    name: str

    @property
    def counts(self) -> np.ndarray:
        """Tokens of each."""
        return np.array([len(ids) for ids in self.texts], dtype=int)


def beginnings(
    model: "EvaluatedModel",
    corpus: Corpus | None,
    suite: SuiteSizes,
    length: int,
    count: int,
    longest: int | None = None,
) -> Beginnings:
    """The beginnings of the first documents: the same text for every member, of `length` of the corpus's tokens.

    Left out are those of more than `longest` of the model's own tokens.
    """
    assert corpus is not None, "held-out text is a corpus's"
    whole = [ids[1:-1] for ids in held_out(corpus, suite) if len(ids) > 2][:count]
    words = [corpus.tokenizer.decode(ids[:length].tolist()).rstrip("\ufffd") for ids in whole]  # half a letter
    tokens = [tuple(ids) for ids in model.tokenizer.encode(words)]
    kept = [number for number, ids in enumerate(tokens) if ids and (longest is None or len(ids) <= longest)]
    sizes = np.array([len(words[number].encode()) for number in kept], dtype=int)
    return Beginnings([tokens[number] for number in kept], sizes, kept, str(corpus.manifest["name"]))
