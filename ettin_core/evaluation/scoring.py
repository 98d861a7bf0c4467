"""How a text is scored, the same for every member: three estimators over one segmentation.

left_to_right      sum of log p(token | the tokens before it). A causal model is asked directly; a masked model sees the
                   tokens before, three masks and EOS, and is read at the first mask (Samuel 2024, trailing masks).
fill               log p(some tokens | all others) by the chain rule: the tokens are masked together and revealed from left
                   to right. Masked models only; a causal model answers through ratios of whole-text probabilities.
pseudo_likelihood  sum over words of fill(word | rest of the text): pseudo-log-likelihood with the within-word
                   left-to-right correction (Salazar et al. 2020; Kauf and Ivanova 2023). Masked models only.

EOS is never scored, and the text is tokenised whole, so that every member scores the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ettin_core.data.tokenizer import Tokenizer
from ettin_core.evaluation.model import EvaluatedModel, Reading

TRAILING_MASKS = 3


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


def segment(tokenizer: Tokenizer, text: str) -> Segmented:
    """Tokenise a text and number its words; words are separated by white space."""
    ids, ends = tokenizer.encode_with_ends(text)
    words = tuple(max(0, len(text[:end].split()) - 1) for end in ends)
    return Segmented(tuple(ids), tuple(ends), words)


def left_to_right(
    model: EvaluatedModel, texts: Sequence[Segmented], scored: Sequence[tuple[int, ...]] | None = None
) -> list[float]:
    """Sum of log p(token | tokens before it) over the scored positions of each text (None: all)."""
    positions = [tuple(range(len(text.ids))) for text in texts] if scored is None else list(scored)
    special = model.tokenizer.special
    readings, owners = [], []
    for number, (text, places) in enumerate(zip(texts, positions, strict=True)):
        if model.is_causal:
            readings.append(Reading((special.bos, *text.ids), places, tuple(text.ids[place] for place in places)))
            owners.append(number)
            continue
        for place in places:
            row = (special.bos, *text.ids[:place], *[special.mask] * TRAILING_MASKS, special.eos)
            readings.append(Reading(row, (model.read_position(place + 1),), (text.ids[place],)))
            owners.append(number)
    return _by_owner(model.sums(readings), owners, len(texts))


def fill(model: EvaluatedModel, texts: Sequence[Segmented], gaps: Sequence[Sequence[tuple[int, ...]]]) -> list[float]:
    """Sum over each text's gaps (tuples of positions) of log p(gap | rest of the text)."""
    assert not model.is_causal, "a causal model does not fill gaps"
    special = model.tokenizer.special
    readings, owners = [], []
    for number, (text, groups) in enumerate(zip(texts, gaps, strict=True)):
        for group in groups:
            for revealed, place in enumerate(group):
                row = [special.bos, *text.ids, special.eos]
                for hidden in group[revealed:]:
                    row[hidden + 1] = special.mask
                readings.append(Reading(tuple(row), (model.read_position(place + 1),), (text.ids[place],)))
                owners.append(number)
    return _by_owner(model.sums(readings), owners, len(texts))


def pseudo_likelihood(model: EvaluatedModel, texts: Sequence[Segmented]) -> list[float]:
    """Pseudo-log-likelihood of each text, word by word."""
    gaps = [[text.tokens_of_words({word}) for word in sorted(set(text.words))] for text in texts]
    return fill(model, texts, gaps)


def _by_owner(values: list[float], owners: list[int], count: int) -> list[float]:
    sums = [0.0] * count
    for value, owner in zip(values, owners, strict=True):
        sums[owner] += value
    return sums
