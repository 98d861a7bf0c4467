"""How a text is scored, the same for every member: four protocols over one tokenisation.

conditional          sum of log p(token | the tokens before it), in one pass. Causal models. One that predicts n tokens ahead is
                     asked for p(token | the tokens up to n before it): its own distribution over texts, given the first
                     n - 1 tokens, which no output predicts and which are not scored.
masked_left_to_right the same quantity of a masked model: it sees the tokens before, three masks and EOS, and is read at the
                     first mask (Samuel 2024, trailing masks).
pseudo_likelihood    sum over words of log p(word | rest of the text), the tokens of a word masked together and revealed from
                     left to right (Salazar et al. 2020, with the correction of Kauf and Ivanova 2023). Masked models.
token_pseudo_likelihood  as Salazar et al. published it: each token masked alone, the rest of its word in sight. It favours
                     words of several tokens, and is what minicons and BabyLM report. Masked models.

A model is read as its objective declares: at the mask, or for MNTP one position earlier. A context and its continuation are
tokenised together, EOS is never scored, and a context longer than the window loses its oldest tokens, BOS first: every
member scores the same tokens.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from ettin_core.evaluation.requests import ScoringRequest, TokenizerLike
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.records.readout import Readout

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

TRAILING_MASKS = 3
POOLED_TOKENS = 2**23  # of rows that are laid out at once
_WORD = re.compile(r"\S+")
VERSIONS = {"conditional": 1, "masked_left_to_right": 1, "pseudo_likelihood": 1, "token_pseudo_likelihood": 1}


@dataclass(frozen=True)
class Score:
    """log p in nats of a number of tokens, and whether each of them is the likeliest at its position.

    Of a continuation also whether it is `fused` with its context (`Pair`).
    """

    log_probability: float
    tokens: int
    greedy: bool
    fused: bool = False


@dataclass(frozen=True)
class Segmented:
    """A tokenised text: ids without special tokens, characters up to each token's end, and the word of each token."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    words: tuple[int, ...]

    def tokens_between(self, begin: int, end: int) -> tuple[int, ...]:
        """Positions of the tokens that end within characters begin < … <= end."""
        return tuple(position for position, last in enumerate(self.ends) if begin < last <= end)

    def tokens_of_words(self, words: set[int]) -> tuple[int, ...]:
        """Positions of the tokens of some words."""
        return tuple(position for position, word in enumerate(self.words) if word in words)

    def by_word(self, positions: Iterable[int]) -> list[tuple[int, ...]]:
        """Positions in groups of one word each, in the order of the words."""
        groups: dict[int, list[int]] = {}
        for position in positions:
            groups.setdefault(self.words[position], []).append(position)
        return [tuple(groups[word]) for word in sorted(groups)]


def segment(tokenizer: TokenizerLike, text: str) -> Segmented:
    """Tokenise a text and number its words; words are separated by white space."""
    ids, ends = tokenizer.encode_with_ends(text)
    starts = np.array([word.start() for word in _WORD.finditer(text)])
    words = np.searchsorted(starts, np.array(ends), side="left") - 1  # the last word that begins before a token ends
    return Segmented(tuple(ids), tuple(ends), tuple(words.clip(0).tolist()))


class Pair(NamedTuple):
    """A context and its continuation as one text, and the positions of the continuation's tokens.

    `fused`: a token spans both ("cabin" + "et are dry."), so that letters of the continuation are not
    scored, or letters of the context are.
    """

    text: Segmented
    positions: tuple[int, ...]
    fused: bool


def split_pair(tokenizer: TokenizerLike, context: str, continuation: str) -> Pair:
    """A context and its continuation, tokenised together.

    The rule of lm-eval: spaces that end the context belong to the continuation, and both are tokenised together. The
    continuation is what is left after as many tokens as the context alone has, and the tokens before are those of the context
    alone. Raises ValueError where nothing is left.
    """
    text = segment(tokenizer, context + continuation)
    alone, _ = tokenizer.encode_with_ends(context.rstrip())
    positions = tuple(range(len(alone), len(text.ids)))
    if not positions:
        raise invalid("continuation", continuation, f"has no token of its own after {context[-40:]!r}", "give a text")
    fused = text.ids[: len(alone)] != tuple(alone)
    return Pair(Segmented((*alone, *text.ids[len(alone) :]), text.ends, text.words), positions, fused)


def protocols_of(readout: Readout) -> tuple[str, ...]:
    """The protocols that are defined for a model, the one that asks for log p(token | the tokens before it) first."""
    masked = ("masked_left_to_right", "pseudo_likelihood", "token_pseudo_likelihood")
    return masked if readout.masked else ("conditional",)


def score(
    model: "EvaluatedModel",
    texts: Sequence[Segmented],
    positions: Sequence[tuple[int, ...]],
    protocol: str | None = None,
    progress: str | None = None,
) -> list[Score]:
    """The score of some positions of each text under a protocol (None: the default), with a bar named `progress`.

    Raises ValueError for a protocol that is not defined for the model.
    """
    make_requests = _request_maker(model, protocol or protocols_of(model.reading)[0])
    scores: list[Score] = []
    with tqdm(total=len(texts), desc=progress, unit="text", disable=progress is None) as bar:
        pool: list[list[ScoringRequest]] = []
        size = 0
        for number, (text, scored) in enumerate(zip(texts, positions, strict=True), start=1):
            pool.append(make_requests(model, text, scored))
            size += sum(len(request.ids) for request in pool[-1])
            if size >= POOLED_TOKENS or number == len(texts):
                scores += _scores(model, pool)
                bar.update(len(pool))
                pool, size = [], 0
    return scores


def score_pairs(
    model: "EvaluatedModel", pairs: Sequence[Pair], protocol: str | None = None, progress: str | None = None
) -> list[Score]:
    """The scores of continuations. Raises ValueError as `score` does, and where no output predicts a continuation's tokens."""
    scores = score(model, [pair.text for pair in pairs], [pair.positions for pair in pairs], protocol, progress)
    for pair, scored in zip(pairs, scores, strict=True):
        if not scored.tokens:
            text = model.tokenizer.decode([pair.text.ids[position] for position in pair.positions])
            problem = f"is nothing that a model read {model.reading.ahead} tokens ahead predicts"
            raise invalid("continuation", text, problem, "give it more context")
    return [replace(scored, fused=pair.fused) for scored, pair in zip(scores, pairs, strict=True)]


def left_to_right(
    model: "EvaluatedModel", texts: Sequence[Segmented], scored: Sequence[tuple[int, ...]] | None = None
) -> list[float]:
    """Sum of log p(token | tokens before it) over the scored positions of each text (None: all)."""
    positions = [tuple(range(len(text.ids))) for text in texts] if scored is None else scored
    return [item.log_probability for item in score(model, texts, positions)]


def pseudo_likelihood(
    model: "EvaluatedModel", texts: Sequence[Segmented], protocol: str = "pseudo_likelihood"
) -> list[float]:
    """Pseudo-log-likelihood of each text, word by word (or, as `token_pseudo_likelihood`, token by token)."""
    positions = [tuple(range(len(text.ids))) for text in texts]
    return [item.log_probability for item in score(model, texts, positions, protocol)]


def fill(model: "EvaluatedModel", texts: Sequence[Segmented], gaps: Sequence[Sequence[tuple[int, ...]]]) -> list[float]:
    """Sum over each text's gaps (tuples of positions) of log p(gap | rest of the text), by the chain rule.

    The tokens of a gap are masked together and revealed from left to right. Masked models only; a causal model answers
    through ratios of whole-text probabilities.
    """
    assert not model.is_causal, "a causal model does not fill gaps"
    pool = [_filled(model, text, groups) for text, groups in zip(texts, gaps, strict=True)]
    return [item.log_probability for item in _scores(model, pool)]


def _scores(model: "EvaluatedModel", pool: list[list[ScoringRequest]]) -> list[Score]:
    """The score of each text from its requests, all asked at once."""
    answers = iter(model.score_requests([request for requests in pool for request in requests]))
    scores = []
    for requests in pool:
        scored = [next(answers) for _ in requests]
        values = np.concatenate([values for values, _ in scored]) if scored else np.empty(0)
        scores.append(Score(float(values.sum()), len(values), all(hits.all() for _, hits in scored)))
    return scores


def _request_maker(
    model: "EvaluatedModel", protocol: str
) -> Callable[["EvaluatedModel", Segmented, tuple[int, ...]], list[ScoringRequest]]:
    makers = {
        "conditional": _conditional,
        "masked_left_to_right": _masked_left_to_right,
        "pseudo_likelihood": _pseudo_likelihood,
        "token_pseudo_likelihood": _token_pseudo_likelihood,
    }
    if protocol not in makers:
        raise unknown("protocol", protocol, "is not a protocol", makers)
    defined = protocols_of(model.reading)
    if protocol not in defined:
        kind = "masked" if model.reading.masked else "causal"
        raise invalid("protocol", protocol, f"is not defined for a {kind} model", f"use {' or '.join(defined)}")
    return makers[protocol]


def _conditional(model: "EvaluatedModel", text: Segmented, positions: tuple[int, ...]) -> list[ScoringRequest]:
    """One pass, in which each output predicts the token `ahead` of it; of what is longer than the window, one for each."""
    whole = (model.tokenizer.special.bos, *text.ids)
    predicted = [(position,) for position in positions if model.read_position(position + 1) >= 0]
    requests = []
    for group in _windows(predicted, model.context):
        scored = [position for (position,) in group]
        reads = [model.read_position(position + 1) for position in scored]
        end = max(reads) + 1
        cut = max(0, end - model.context)
        targets = tuple(text.ids[position] for position in scored)
        requests.append(ScoringRequest(whole[cut:end], tuple(read - cut for read in reads), targets))
    return requests


def _masked_left_to_right(model: "EvaluatedModel", text: Segmented, positions: tuple[int, ...]) -> list[ScoringRequest]:
    """One row for each token, which sees the tokens before it that fit, masks in its place and the two after, and EOS."""
    special = model.tokenizer.special
    tail = (*[special.mask] * TRAILING_MASKS, special.eos)
    room = model.context - len(tail)
    whole = (special.bos, *text.ids)
    requests = []
    for position in positions:
        before = whole[max(0, position + 1 - room) : position + 1]
        requests.append(ScoringRequest((*before, *tail), (model.read_position(len(before)),), (text.ids[position],)))
    return requests


def _pseudo_likelihood(model: "EvaluatedModel", text: Segmented, positions: tuple[int, ...]) -> list[ScoringRequest]:
    """One gap for each word, of its scored tokens."""
    return _filled(model, text, text.by_word(sorted(positions)))


def _token_pseudo_likelihood(
    model: "EvaluatedModel", text: Segmented, positions: tuple[int, ...]
) -> list[ScoringRequest]:
    """One gap for each scored token."""
    return _filled(model, text, [(position,) for position in positions])


def _filled(model: "EvaluatedModel", text: Segmented, gaps: Sequence[tuple[int, ...]]) -> list[ScoringRequest]:
    """One row for each token of each gap, which sees the text but the gap's tokens from itself on.

    A text longer than the window loses what is before the first gap, as far as it must, and then its end. Gaps that do
    not fit into one window are filled window by window.
    """
    special = model.tokenizer.special
    whole, room = (special.bos, *text.ids), model.context - 1
    requests = []
    for group in _windows(gaps, room - 1):
        cut = max(0, min(len(whole) - room, min(position for gap in group for position in gap)))
        for gap in group:
            for revealed, position in enumerate(gap):
                row = [*whole[cut : cut + room], special.eos]
                for hidden in gap[revealed:]:
                    row[hidden + 1 - cut] = special.mask
                read = model.read_position(position + 1 - cut)
                requests.append(ScoringRequest(tuple(row), (read,), (text.ids[position],)))
    return requests


def _windows(gaps: Sequence[tuple[int, ...]], room: int) -> list[list[tuple[int, ...]]]:
    """Gaps in groups that are each within `room` tokens. Raises ValueError for a wider gap."""
    groups: list[list[tuple[int, ...]]] = []
    first = 0
    for gap in filter(None, gaps):
        low, high = min(gap), max(gap)
        if high - low >= room:
            problem = f"do not fit into a window of {room}"
            raise invalid("tokens of one gap", high - low + 1, problem, "score shorter words")
        if groups and high - first < room:
            groups[-1].append(gap)
        else:
            groups.append([gap])
            first = low
    return groups
