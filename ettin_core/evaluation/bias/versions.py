"""The one estimator of the pronoun probes: which of a sentence's versions a model expects, given the words they share.

Versions of a sentence differ in a few words (a pronoun, and what agrees with it). Measured is
    p(words of a version | all other words), normalised over the versions.
A masked model gives it by filling those words; a causal model by the ratio of the whole sentences' probabilities, which is
the same conditional under its own joint distribution.

A sum over more tokens is smaller, whatever the words: of a sentence whose versions differ in their number of tokens, a uniform
model prefers the version that has the fewest, and a masked model sees how many masks there are. Such sentences are counted, and
every share is also given in a reading that does not know the length (`per_token`): the differing words count by their mean
per token, scaled to the mean number of such tokens over versions, and of a masked model's row each version has the same number
of masks at each differing word. Where versions have equal lengths the two readings are one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ettin_core.evaluation.scoring import Segmented, fill, left_to_right, segment
from ettin_core.foundation.errors import invalid

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel


@dataclass(frozen=True)
class Shares:
    """Probabilities of the versions of n sentences, (n, versions), rows summing to one: exact, and by the mean per token.

    `tokens` are the numbers of tokens in the differing words.
    """

    exact: np.ndarray
    per_token: np.ndarray
    tokens: np.ndarray

    def details(self, number: int) -> dict[str, object]:
        """What an item's record holds of its lengths: the tokens of each version, and the shares per token."""
        return {"tokens": self.tokens[number].tolist(), "per_token": self.per_token[number].tolist()}


@dataclass(frozen=True)
class _Version:
    """A tokenised version: its differing tokens, and those of each differing word with the blank before it.

    A tokenizer may encode the blank as a separate token, which belongs to no word but counts in a sum.
    """

    text: Segmented
    differing: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]

    @property
    def gap(self) -> tuple[int, ...]:
        return tuple(place for word in self.words for place in word)

    def padded(self, sizes: Sequence[int], mask: int) -> "_Version":
        """With masks after each differing word, up to these numbers of tokens."""
        ids, words, shift = list(self.text.ids), [], 0
        for word, size in zip(self.words, sizes, strict=True):
            words.append(tuple(place + shift for place in word))
            if not word:  # a token spans it and its neighbour
                continue
            end = words[-1][-1] + 1
            ids[end:end] = [mask] * (size - len(word))
            shift += size - len(word)
        return _Version(replace(self.text, ids=tuple(ids)), (), tuple(words))


def compared(model: "EvaluatedModel", sentences: Sequence[tuple[str, ...]]) -> Shares:
    """The shares of each sentence's versions in both readings."""
    if not sentences:
        return Shares(np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0), dtype=int))
    groups = [_versions(model, versions) for versions in sentences]
    tokens = np.array([[len(version.gap) for version in group] for group in groups])
    uneven = [number for number, row in enumerate(tokens) if len(set(row)) > 1]
    exact = _exact(model, groups)
    shares, chosen = _shares(exact), [groups[number] for number in uneven]
    per_token = shares.copy()
    if uneven:
        lengths = tokens[uneven].clip(1)
        gaps = _gaps(model, chosen)
        shared = exact[uneven] - gaps if model.is_causal else 0.0
        per_token[uneven] = _shares(shared + gaps / lengths * lengths.mean(1, keepdims=True))
    return Shares(shares, per_token, tokens)


def _versions(model: "EvaluatedModel", versions: tuple[str, ...]) -> list[_Version]:
    differing = differing_words(versions)
    segmented = []
    for version in versions:
        text, ends = segment(model.tokenizer, version), [0, *(word.end() for word in re.finditer(r"\S+", version))]
        words = tuple(text.tokens_between(ends[word], ends[word + 1]) for word in sorted(differing))
        segmented.append(_Version(text, text.tokens_of_words(differing), words))
    return segmented


def _exact(model: "EvaluatedModel", groups: list[list[_Version]]) -> np.ndarray:
    """log p(words of each version | all others) up to a constant of the sentence."""
    flat = [version for group in groups for version in group]
    texts = [version.text for version in flat]
    scores = left_to_right(model, texts) if model.is_causal else fill(model, texts, [[item.differing] for item in flat])
    return np.array(scores).reshape(len(groups), -1)


def _gaps(model: "EvaluatedModel", groups: list[list[_Version]]) -> np.ndarray:
    """log p of the differing words' own tokens; of a masked model beside as many masks in each version."""
    flat = [version for group in groups for version in group]
    if model.is_causal:
        scores = left_to_right(model, [item.text for item in flat], [item.gap for item in flat])
    else:
        flat = []
        for group in groups:
            sizes = np.max([[len(word) for word in version.words] for version in group], axis=0)
            flat += [version.padded(sizes.tolist(), model.tokenizer.special.mask) for version in group]
        scores = fill(model, [item.text for item in flat], [[item.gap] for item in flat])
    return np.array(scores).reshape(len(groups), -1)


def _shares(scores: np.ndarray) -> np.ndarray:
    table = np.exp(scores - scores.max(1, keepdims=True))
    return table / table.sum(1, keepdims=True)


def differing_words(versions: tuple[str, ...]) -> set[int]:
    """Numbers of the words in which versions of a sentence differ. Raises ValueError for unequal lengths."""
    words = [version.split() for version in versions]
    if len({len(version) for version in words}) > 1:
        raise invalid("sentence", versions[0], "has versions of different length", "align them word by word")
    return {number for number, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1}
