"""Rows of a batch as plain text: pieces of documents, corruption, targets. What is no text is shown as bytes."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.objectives.assign import RunPosition, assign_rows, make_targets
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Masking, Targets, Vocabulary, select

WIDTH = 118
SHORT = 6  # lines of a piece in a shortened row
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = (byte for byte in range(256) if byte not in _PRINTABLE)
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + number): byte for number, byte in enumerate(_OTHERS)}
_STATES = {  # by whether it holds the document's beginning, and its end
    (True, True): "a whole document",
    (True, False): "a document's beginning, cut at its end",
    (False, True): "a document's end, its beginning is elsewhere",
    (False, False): "from within a document",
}


def spell(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of token ids: special tokens by name, bytes that are no text as \\xe2, control characters escaped."""
    special = set(tokenizer.special.ids)
    return "".join(
        tokenizer.decode(group, show_special=True) if is_special else _escaped(_decoded(tokenizer, list(group)))
        for is_special, group in itertools.groupby(ids, key=special.__contains__)
    )


def _decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    names = "".join(tokenizer.backend.id_to_token(number) or "" for number in ids)
    if all(letter in _BYTES for letter in names):  # a byte-level vocabulary, which can hold half a character
        return bytes(_BYTES[letter] for letter in names).decode("utf-8", errors="backslashreplace")
    return tokenizer.decode(ids, show_special=True)


def _escaped(text: str) -> str:
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


@dataclass(frozen=True)
class ObjectiveView:
    """A batch as an objective presents it: `selected` (B, S) are the tokens it chose to corrupt (None: it corrupts none).

    `parts` names the objective and direction of each row where it is a schedule's.
    """

    objective: str
    batch: Batch
    masking: Masking
    targets: Targets
    selected: np.ndarray | None
    special: np.ndarray
    mask: int
    parts: list[str]

    @classmethod
    def through(
        cls,
        config: ObjectiveConfig,
        direction: str,
        batch: Batch,
        vocabulary: Vocabulary,
        rate: float,
        key: int,
        moment: RunPosition,
    ) -> "ObjectiveView":
        """The batch through an objective at a moment of a run."""
        targets = make_targets(config, direction, batch, vocabulary, rate, key, moment)
        masking, parts = Masking(rate, config.mask_share, config.random_share), config.under(direction)
        chosen = assign_rows(config, parts, batch, key, moment)
        corrupts = np.array([OBJECTIVES[part.objective].corrupts for part in parts])[chosen]
        selected = select(batch, vocabulary, masking, key)[1] & corrupts[:, None] if corrupts.any() else None
        special = np.isin(batch.tokens, vocabulary.special.ids) & batch.real
        names = [f"{parts[number].objective}, {parts[number].direction}" for number in chosen] if config.parts else []
        return cls(config.name, batch, masking, targets, selected, special, vocabulary.special.mask, names)

    @cached_property
    def scored(self) -> np.ndarray:
        """Where predictions are read, (B, S) bool."""
        scored = np.zeros(self.batch.tokens.size, dtype=bool)
        scored[self.targets.scored_positions] = True
        return scored.reshape(self.batch.tokens.shape)

    def counts(self, rows: slice) -> str:
        """What is scored in these rows, and what is not and why."""
        real, scored = int(self.batch.real[rows].sum()), int(self.scored[rows].sum())
        padding = self.batch.tokens[rows].size - real
        if self.parts:
            named = Counter(self.parts[rows])
            return (
                f"{scored:,} of {real:,} tokens scored; rows: {'; '.join(f'{n} {name}' for name, n in named.items())}"
            )
        if self.selected is None:
            prefix = int(self.targets.prefix_mask[rows].sum()) if self.targets.prefix_mask is not None else 0
            ends, opened = real - scored - prefix, f"{prefix:,} in open prefixes, " if prefix else ""
            return f"{scored:,} of {real:,} tokens scored; not scored: {opened}{ends:,} that end a piece, {padding:,} padding"
        selected, special = self.selected[rows], int(self.special[rows].sum())
        inputs, tokens = self.targets.inputs[rows][selected], self.batch.tokens[rows][selected]
        masks, kept = int((inputs == self.mask).sum()), int((inputs == tokens).sum())
        chosen, eligible = int(selected.sum()), real - special
        first = f", {chosen - scored:,} selected that begin a piece" if chosen > scored else ""
        return (
            f"{scored:,} of {real:,} tokens scored; of {eligible:,} that are not special {chosen:,} selected at rate "
            f"{self.masking.rate:g}: {masks:,} masked, {chosen - masks - kept:,} random, {kept:,} kept; "
            f"not scored: {eligible - chosen:,} not selected{first}, {special:,} special, {padding:,} padding"
        )


def pieces(batch: Batch, row: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each piece of a document in a row."""
    documents = batch.document_ids[row]
    edges = np.flatnonzero(np.diff(documents, prepend=-2, append=-2))
    return ((begin, end) for begin, end in itertools.pairwise(edges.tolist()) if documents[begin] >= 0)


@dataclass(frozen=True)
class RowText:
    """How rows of a batch are printed: `listed` targets, and long texts shortened unless `full`."""

    batch: Batch
    tokenizer: Tokenizer
    listed: int
    full: bool

    def stored(self, row: int) -> list[str]:
        """A row's pieces with their bounds, one after another, as they lie in the corpus."""
        bounds, lines = list(pieces(self.batch, row)), []
        for number, (begin, end) in enumerate(bounds, start=1):
            ids = self.batch.tokens[row, begin:end].tolist()
            whole = ids[0] == self.tokenizer.special.bos, ids[-1] == self.tokenizer.special.eos
            place = f"places {begin}-{end - 1}, {end - begin} tokens"
            lines.append(f"  -- piece {number} of {len(bounds)}, {place}: {_STATES[whole]}")
            lines += self._block(spell(self.tokenizer, ids), row)
        padding = int((~self.batch.real[row]).sum())
        return [*lines, f"  -- padding, {padding} places"] if padding else lines

    def through(self, all_seen: list[ObjectiveView], row: int) -> list[str]:
        """What each objective makes of a row: counts, inputs with [x→y] where a model sees x for y, the first targets."""
        lines = []
        for number, seen in enumerate(all_seen):
            counts = f"objective {seen.objective}: {seen.counts(slice(row, row + 1))}"
            lines += textwrap.wrap(counts, WIDTH, initial_indent="  ", subsequent_indent="    ")
            lines += self._inputs(seen, all_seen[:number], row)
            lines += self._targets(seen, row)
        return lines

    def _inputs(self, seen: ObjectiveView, before: list[ObjectiveView], row: int) -> list[str]:
        if seen.selected is None:
            return ["  inputs: the text above, as it is"]
        for other in before:
            if other.selected is not None and np.array_equal(other.targets.inputs[row], seen.targets.inputs[row]):
                return [f"  inputs: as for {other.objective} above"]
        lines = ["  inputs, [x→y] where the model sees x for y ([y→y]: selected and kept; ␣ is a space):"]
        for number, (begin, end) in enumerate(pieces(self.batch, row), start=1):
            lines += [f"  -- piece {number}", *self._block(self._marked(seen, row, begin, end), row)]
        return lines

    def _marked(self, seen: ObjectiveView, row: int, begin: int, end: int) -> str:
        assert seen.selected is not None
        shown, stored = seen.targets.inputs[row].tolist(), self.batch.tokens[row].tolist()
        parts = []
        for chosen, places in itertools.groupby(range(begin, end), key=seen.selected[row].tolist().__getitem__):
            if chosen:
                parts += [f"[{self._mark(shown[place])}→{self._mark(stored[place])}]" for place in places]
            else:
                parts.append(spell(self.tokenizer, [stored[place] for place in places]))
        return "".join(parts)

    def _mark(self, token: int) -> str:
        """A token in one unbroken word; "[MASK]" without its brackets."""
        text = spell(self.tokenizer, [token])
        if token in self.tokenizer.special.ids:
            return text.strip("[]")
        return text.replace("\n", "\\n").replace(" ", "␣")

    def _targets(self, seen: ObjectiveView, row: int) -> list[str]:
        width = self.batch.tokens.shape[1]
        mine = np.flatnonzero(seen.targets.scored_positions // width == row)
        lines = [f"  targets, the first {min(self.listed, len(mine))} of {len(mine)}:"]
        if self.listed and len(mine):
            lines.append(f"    {'read at':>8}   {'the model sees there':<34} label")
        for number in mine[: self.listed].tolist():
            place = int(seen.targets.scored_positions[number] % width)
            sees, label = int(seen.targets.inputs[row, place]), int(seen.targets.labels[number])
            lines.append(f"    {place:>8}   {quoted(self.tokenizer, sees):<34} {quoted(self.tokenizer, label)}")
        return lines

    def _block(self, text: str, row: int) -> list[str]:
        """A text set off by a bar and wrapped; a line break shows as ⏎."""
        lines = []
        for paragraph in text.replace("\n", "⏎\n").split("\n"):
            lines += textwrap.wrap(
                paragraph, WIDTH - 4, expand_tabs=False, replace_whitespace=False, drop_whitespace=False
            )
        if not self.full and len(lines) > SHORT + 1:
            more = f"... {len(lines) - SHORT} more lines; row={self.batch.rows[row]} shows the row in full"
            lines = [*lines[:SHORT], more]
        return [f"  | {line}" for line in lines]


def quoted(tokenizer: Tokenizer, token: int) -> str:
    """A token between quotes, on one line."""
    return '"' + spell(tokenizer, [token]).replace("\n", "\\n") + '"'
