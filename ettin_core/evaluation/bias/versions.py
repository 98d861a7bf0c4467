"""The one estimator of the pronoun probes: which of a sentence's versions a model expects, given the words they share.

Versions of a sentence differ in a few words (a pronoun, and what agrees with it). Measured is
    p(words of a version | all other words), normalised over the versions.
A masked model gives it by filling those words; a causal model by the ratio of the whole sentences' probabilities, which is
the same conditional under its own joint distribution.
"""

from collections.abc import Sequence

import numpy as np

from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.scoring import fill, left_to_right, segment
from ettin_core.foundation.errors import invalid


def version_shares(model: EvaluatedModel, sentences: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Probability of each version of each sentence, (n, versions), rows summing to one."""
    if not sentences:
        return np.empty((0, 0))
    texts, gaps = [], []
    for versions in sentences:
        differing = differing_words(versions)
        for version in versions:
            text = segment(model.tokenizer, version)
            texts.append(text)
            gaps.append([text.tokens_of_words(differing)])
    scores = left_to_right(model, texts) if model.is_causal else fill(model, texts, gaps)
    table = np.array(scores).reshape(len(sentences), -1)
    table = np.exp(table - table.max(1, keepdims=True))
    return table / table.sum(1, keepdims=True)


def differing_words(versions: tuple[str, ...]) -> set[int]:
    """Numbers of the words in which versions of a sentence differ. Raises ValueError for unequal lengths."""
    words = [version.split() for version in versions]
    if len({len(version) for version in words}) > 1:
        raise invalid("sentence", versions[0], "has versions of different length", "align them word by word")
    return {number for number, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1}
