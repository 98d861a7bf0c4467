"""Where every free decision of the generator is made, and its probability kept.

Code that writes a document asks a ``Chooser`` for each decision and never knows who answers: a random stream
(``StreamChooser``) or an exhaustive walk over all answers (``outcomes``). So the very code that writes the training
text can be enumerated, and the log-probability of a text is the sum of what its decisions cost.

Randomness is integer arithmetic on a SHA-256 key and a SplitMix64 counter, written here, because the streams of
``random`` and ``numpy`` are only promised within a version. Probabilities are ratios of integers for the same reason.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, TypeVar

Option = TypeVar("Option")
Result = TypeVar("Result")

_MASK = (1 << 64) - 1
_LOGARITHMS = tuple(math.log(n) if n else 0.0 for n in range(1024))


@dataclass(frozen=True)
class Weighted(Generic[Option]):
    """Options with positive integer weights; an option has the probability weight / total.

    Raises:
        ValueError: if the lists differ in length or a weight is below one.
    """

    options: Sequence[Option]
    weights: Sequence[int]
    limits: tuple[int, ...] = field(init=False)
    log_probabilities: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.options) != len(self.weights) or min(self.weights, default=0) < 1:
            raise ValueError(f"weights={self.weights}: give each of the {len(self.options)} options an integer >= 1")
        limits = tuple(accumulate(self.weights))
        object.__setattr__(self, "limits", limits)
        object.__setattr__(self, "log_probabilities", tuple(math.log(w) - math.log(limits[-1]) for w in self.weights))


class Chooser(ABC):
    """Answers decisions and keeps ``log_probability``, the sum (in nats) of the answers given so far."""

    def __init__(self) -> None:
        self.log_probability = 0.0

    @abstractmethod
    def _below(self, count: int) -> int:
        """A position in range(count), each with probability 1 / count."""

    @abstractmethod
    def _within(self, limits: tuple[int, ...]) -> int:
        """A position with probability proportional to its step in the increasing ``limits``."""

    def uniform(self, options: Sequence[Option]) -> Option:
        """One of ``options``, all equally probable."""
        count = len(options)
        if count == 1:
            return options[0]
        self.log_probability -= _LOGARITHMS[count] if count < 1024 else math.log(count)
        return options[self._below(count)]

    def weighted(self, table: Weighted[Option]) -> Option:
        """One of the options of ``table``, by its weights."""
        position = self._within(table.limits)
        self.log_probability += table.log_probabilities[position]
        return table.options[position]

    def shuffled(self, options: Sequence[Option], count: int) -> list[Option]:
        """``count`` different options in random order."""
        left = list(options)
        taken = []
        for _ in range(count):
            position = self.uniform(range(len(left)))
            taken.append(left.pop(position))
        return taken


class StreamChooser(Chooser):
    """Answers from the random stream of a key.

    A multiplication maps 64 random bits to a range, so a probability is off by less than 2**-50 of its value.
    """

    def __init__(self, *key: object) -> None:
        super().__init__()
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._state = int.from_bytes(digest[:8], "little")

    def _below(self, count: int) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        bits = self._state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((bits ^ (bits >> 31)) * count) >> 64

    def _within(self, limits: tuple[int, ...]) -> int:
        target = self._below(limits[-1])
        return next(position for position, limit in enumerate(limits) if target < limit)


class _ScriptedChooser(Chooser):
    """Repeats the answers of a script, then answers zero; notes how many answers each decision had."""

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__()
        self.answers = list(script)
        self.counts: list[int] = []

    def _below(self, count: int) -> int:
        if len(self.counts) == len(self.answers):
            self.answers.append(0)
        self.counts.append(count)
        return self.answers[len(self.counts) - 1]

    def _within(self, limits: tuple[int, ...]) -> int:
        return self._below(len(limits))


def outcomes(build: Callable[[Chooser], Result]) -> Iterator[tuple[Result, float]]:
    """Every result ``build`` can have, with its log-probability in nats, in a fixed order.

    ``build`` runs once per outcome, so use it where the outcomes can be counted.
    """
    script: list[int] = []
    while True:
        chooser = _ScriptedChooser(script)
        yield build(chooser), chooser.log_probability
        script = chooser.answers
        # The next script raises the last decision that has an answer left and forgets what came after it.
        while script and script[-1] + 1 == chooser.counts[len(script) - 1]:
            script.pop()
        if not script:
            return
        script[-1] += 1
