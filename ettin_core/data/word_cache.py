"""Encoding by remembered words. Byte-level BPE cuts a text into words and encodes each by itself, so that a word that was
seen need not be encoded again: the library encodes every distinct word, this module finds and remembers them.

It is not used for a tokenizer that does more than that. Nor is it used around letters whose class has changed between versions
of Unicode, where two libraries might divide words differently. Ids are kept as bytes: numbers of Python's would cost
more to join than the words to find, and lists of them keep its garbage collector busy.
"""

import json
import re
import unicodedata
from itertools import chain, groupby

import numpy as np
from tokenizers import Tokenizer as BackendTokenizer

KEPT_WORDS = 2**18
LONGEST_WORD = 48
# Latin, IPA, Greek, Cyrillic, punctuation, currencies, letterlike signs, arrows and mathematics; no rare separators.
_FAMILIAR = (
    "\x00-\x1b\x20-\u02af\u0391-\u03a1\u03a3-\u0481\u048a-\u052f\u1e00-\u1eff"
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2100-\u22ff"
)
_UNFAMILIAR = re.compile(f"[^{_FAMILIAR}]")
# No word spans these places, and no word before one depends on what follows.
_BETWEEN_LINES = re.compile(r"(?<=[!-~]\n)(?=[A-Za-z])")
_BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")


def _of_class(letter: str) -> str:
    """The familiar characters of a class of Unicode (L: letters, N: numbers), as a part of a set in a pattern."""
    characters = (chr(code) for code in range(0x2300) if unicodedata.category(chr(code))[0] == letter)
    return "".join(re.escape(character) for character in characters if not _UNFAMILIAR.match(character))


def _word_pattern() -> re.Pattern[str]:
    """The pattern of ByteLevel (GPT-2, Radford et al. 2019), which tokenizers has built in."""
    letters, numbers = _of_class("L"), _of_class("N")
    return re.compile(rf" ?[{letters}]+|'(?:[stmd]|re|ve|ll)| ?[{numbers}]+| ?[^\s{letters}{numbers}]+|\s+(?!\S)|\s+")


_WORD = _word_pattern()


class WordMemory:
    """Token ids of the words met so far, for one tokenizer."""

    def __init__(self, backend: BackendTokenizer) -> None:
        self._backend = backend
        self._ids: dict[str, bytes] = {}

    @staticmethod
    def suits(backend: BackendTokenizer) -> bool:
        """Whether a tokenizer encodes word by word, with the built-in pattern and nothing before it."""
        parts = json.loads(backend.to_str())
        return (
            parts["normalizer"] is None
            and parts["pre_tokenizer"] is not None
            and parts["pre_tokenizer"]["type"] == "ByteLevel"
            and not parts["pre_tokenizer"]["add_prefix_space"]
            and parts["pre_tokenizer"].get("use_regex", True)
            and parts["model"]["type"] == "BPE"
            and not parts["model"].get("dropout")
            and all(token["special"] for token in parts["added_tokens"])
        )

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, uint32, the same as the tokenizer's own."""
        parts_by_text = [_parts(text) for text in texts]
        parts = list(chain.from_iterable(parts_by_text))
        known = self._ids
        new = list(set(chain.from_iterable(part for part in parts if isinstance(part, list))).difference(known))
        whole = [part for part in parts if isinstance(part, str)]
        encoded = [
            np.array(item.ids, dtype=np.uint32).tobytes()
            for item in self._backend.encode_batch_fast(new + whole, add_special_tokens=False)
        ]
        known.update(zip(new, encoded, strict=False))
        rest = iter(encoded[len(new) :])
        ids = []
        for text_parts in parts_by_text:
            encodings = (
                (next(rest),) if isinstance(part, str) else map(known.__getitem__, part) for part in text_parts
            )
            ids.append(np.frombuffer(bytearray().join(chain.from_iterable(encodings)), dtype=np.uint32))
        self._forget(new)
        return ids

    def _forget(self, new: list[str]) -> None:
        """Keep memory bounded: long words do not come back, and too many words are forgotten all at once."""
        for word in new:
            if len(word) > LONGEST_WORD:
                del self._ids[word]
        if len(self._ids) > KEPT_WORDS:
            self._ids.clear()


def _parts(text: str) -> list[list[str] | str]:
    """The words of a text; what is around unfamiliar characters is left whole."""
    if not _UNFAMILIAR.search(text):
        return [_WORD.findall(text)]
    lines = _BETWEEN_LINES.split(text)
    pieces = chain.from_iterable(_BETWEEN_WORDS.split(line) if _UNFAMILIAR.search(line) else [line] for line in lines)
    groups = groupby(pieces, key=lambda piece: _UNFAMILIAR.search(piece) is not None)
    parts = ((unfamiliar, "".join(group)) for unfamiliar, group in groups)
    return [part if unfamiliar else _WORD.findall(part) for unfamiliar, part in parts]
