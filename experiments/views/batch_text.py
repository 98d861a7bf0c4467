"""Rows of a batch as plain text: pieces of documents, corruption, targets. Bytes that decode to no text show as \\xe2."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.planning.step_batch import ObjectiveView

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
    """The text of token ids: special tokens by name, bytes that decode to no text as \\xe2, control characters escaped."""
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


def counts_of(view: ObjectiveView, rows: slice) -> str:
    """What is scored in these rows, and what is not and why."""
    real, scored = int(view.batch.real[rows].sum()), int(view.scored[rows].sum())
    padding = view.batch.tokens[rows].size - real
    if view.components:
        named = Counter(view.components[rows])
        return f"{scored:,} of {real:,} tokens scored; rows: {'; '.join(f'{n} {name}' for name, n in named.items())}"
    if view.selected is None:
        prefix = int(view.targets.prefix_mask[rows].sum()) if view.targets.prefix_mask is not None else 0
        ends, prefixes = real - scored - prefix, f"{prefix:,} in open prefixes, " if prefix else ""
        return f"{scored:,} of {real:,} tokens scored; not scored: {prefixes}{ends:,} that end a piece, {padding:,} padding"
    selected, special = view.selected[rows], int(view.special[rows].sum())
    inputs, tokens = view.targets.inputs[rows][selected], view.batch.tokens[rows][selected]
    masks, kept = int((inputs == view.mask).sum()), int((inputs == tokens).sum())
    chosen, eligible = int(selected.sum()), real - special
    first = f", {chosen - scored:,} selected that begin a piece" if chosen > scored else ""
    return (
        f"{scored:,} of {real:,} tokens scored; of {eligible:,} that are not special {chosen:,} selected at rate "
        f"{view.masking.rate:g}: {masks:,} masked, {chosen - masks - kept:,} random, {kept:,} kept; "
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
        """A row's pieces with their bounds, one after another, as the corpus stores them."""
        bounds, lines = list(pieces(self.batch, row)), []
        for number, (begin, end) in enumerate(bounds, start=1):
            ids = self.batch.tokens[row, begin:end].tolist()
            whole = ids[0] == self.tokenizer.special.bos, ids[-1] == self.tokenizer.special.eos
            place = f"places {begin}-{end - 1}, {end - begin} tokens"
            lines.append(f"  -- piece {number} of {len(bounds)}, {place}: {_STATES[whole]}")
            lines += self._block(spell(self.tokenizer, ids), row)
        padding = int((~self.batch.real[row]).sum())
        return [*lines, f"  -- padding, {padding} places"] if padding else lines

    def through(self, views: list[ObjectiveView], row: int) -> list[str]:
        """What each objective makes of a row: counts, inputs with [x→y] where a model sees x for y, the first targets."""
        lines = []
        for number, view in enumerate(views):
            counts = f"objective {view.objective}: {counts_of(view, slice(row, row + 1))}"
            lines += textwrap.wrap(counts, WIDTH, initial_indent="  ", subsequent_indent="    ")
            lines += self._inputs(view, views[:number], row)
            lines += self._targets(view, row)
        return lines

    def _inputs(self, view: ObjectiveView, before: list[ObjectiveView], row: int) -> list[str]:
        if view.selected is None:
            return ["  inputs: the text above, as it is"]
        for earlier in before:
            if earlier.selected is not None and np.array_equal(earlier.targets.inputs[row], view.targets.inputs[row]):
                return [f"  inputs: as for {earlier.objective} above"]
        lines = ["  inputs, [x→y] where the model sees x for y ([y→y]: selected and kept; ␣ is a space):"]
        for number, (begin, end) in enumerate(pieces(self.batch, row), start=1):
            lines += [f"  -- piece {number}", *self._block(self._marked(view, row, begin, end), row)]
        return lines

    def _marked(self, view: ObjectiveView, row: int, begin: int, end: int) -> str:
        assert view.selected is not None
        shown, stored = view.targets.inputs[row].tolist(), self.batch.tokens[row].tolist()
        parts = []
        for chosen, places in itertools.groupby(range(begin, end), key=view.selected[row].tolist().__getitem__):
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

    def _targets(self, view: ObjectiveView, row: int) -> list[str]:
        width = self.batch.tokens.shape[1]
        in_row = np.flatnonzero(view.targets.scored_positions // width == row)
        lines = [f"  targets, the first {min(self.listed, len(in_row))} of {len(in_row)}:"]
        if self.listed and len(in_row):
            lines.append(f"    {'read at':>8}   {'the model sees there':<34} label")
        for number in in_row[: self.listed].tolist():
            place = int(view.targets.scored_positions[number] % width)
            sees, label = int(view.targets.inputs[row, place]), int(view.targets.labels[number])
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
