"""The tokenizer: byte-level BPE with the five special tokens of the published models. The same for every member.

Text never produces a special token: a literal "[MASK]" in a document is encoded as the letters it is. BOS and EOS are added
by the preparation (BOS document EOS), so that both members of a pair meet the same marks.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as BackendTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from ettin_core.data.word_cache import WordMemory
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_file, hash_text, read_json, write_json, write_text

SPECIAL_NAMES = {"unknown": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
POLICY = "BOS document EOS"
STRETCH = 2**19  # characters
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_]) (?=[^\W\d_])")
_ENDLESS_WORD = re.compile(r"(\S{256})")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens, by role, and of every other token that text cannot produce."""

    unknown: int
    bos: int
    eos: int
    pad: int
    mask: int

    @property
    def ids(self) -> tuple[int, ...]:
        """All special ids, sorted."""
        return tuple(sorted({self.unknown, self.bos, self.eos, self.pad, self.mask}))


class Tokenizer:
    """A loaded tokenizer folder: encode, decode, special ids and the hash that goes into every manifest.

    `ids` are those that have a token, sorted, int64; there may be gaps between them. `vocab_size` is the largest plus one:
    what arrays over all ids need.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise invalid(
                "data.tokenizer", str(folder), "holds no tokenizer.json", "give a folder saved by save_pretrained"
            )
        self.folder = folder
        self.backend = BackendTokenizer.from_file(str(file))
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        self.hash = hash_file(file)
        self.special = _special_tokens(folder, self.backend)
        self.ids = token_ids(self.backend)
        self.vocab_size = int(self.ids[-1]) + 1

    def holds(self, ids: np.ndarray) -> bool:
        """Whether each of these ids (at least one) has a token."""
        return bool(ids.min() >= 0 and ids.max() < self.vocab_size and self._known[ids].all())

    @cached_property
    def _known(self) -> np.ndarray:
        return np.isin(np.arange(self.vocab_size), self.ids)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, uint32. A very long text is encoded in stretches and few at once, to bound memory."""
        encoded: list[list[np.ndarray]] = [[] for _ in texts]
        for group in _groups((number, part) for number, text in enumerate(texts) for part in self._stretches(text)):
            for (number, _), ids in zip(group, self._encode_all([part for _, part in group]), strict=True):
                encoded[number].append(ids)
        return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in encoded]

    def _stretches(self, text: str) -> list[str]:
        return _stretches(text, STRETCH) if len(text) > STRETCH and self._cuts_at_spaces else [text]

    def _encode_all(self, texts: list[str]) -> list[np.ndarray]:
        if self._words is not None:
            return self._words.encode(texts)
        items = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(item.ids, dtype=np.uint32) for item in items]

    @cached_property
    def _words(self) -> WordMemory | None:
        return WordMemory(self.backend) if WordMemory.suits(self.backend) else None

    @cached_property
    def _cuts_at_spaces(self) -> bool:
        """Whether a text gives the same ids when it is cut before a space between letters; most tokenizers do."""
        left, right = "A sentence, cut in two", " just before a space."
        whole, *halves = self.backend.encode_batch_fast([left + right, left, right], add_special_tokens=False)
        return whole.ids == [*halves[0].ids, *halves[1].ids]

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a text and, for each token, the number of characters up to and including it."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, [end for _, end in encoding.offsets]

    def decode(self, ids: Iterable[int], show_special: bool = False) -> str:
        """The text of token ids; byte-level, so decode(encode(text)) is the text."""
        return self.backend.decode(list(ids), skip_special_tokens=not show_special)


def token_ids(backend: BackendTokenizer) -> np.ndarray:
    """Every id that a tokenizer gives a token, added ones included, sorted, int64."""
    return np.unique(np.fromiter(backend.get_vocab(with_added_tokens=True).values(), dtype=np.int64))


def _stretches(text: str, size: int) -> list[str]:
    """A text cut before spaces between letters, into `size` characters or some more; a word twice as long is cut, too."""
    cuts = [0]
    while len(text) - cuts[-1] > size:
        match = _BETWEEN_LETTERS.search(text, cuts[-1] + size, cuts[-1] + 2 * size)
        cuts.append(match.start() if match else min(cuts[-1] + 2 * size, len(text)))
    return [text[begin:end] for begin, end in itertools.pairwise([*cuts, len(text)])]


def _groups(parts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Parts in groups of about a megabyte or two."""
    group: list[tuple[int, str]] = []
    held = 0
    for part in parts:
        if group and held + len(part[1]) > 4 * STRETCH:
            yield group
            group, held = [], 0
        group.append(part)
        held += len(part[1])
    if group:
        yield group


def train(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE and write a tokenizer folder that transformers loads."""
    backend = BackendTokenizer(models.BPE(unk_token=SPECIAL_NAMES["unknown"]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_NAMES.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_digestible(texts), trainer)
    save(backend, folder)


def _digestible(texts: Iterable[str]) -> Iterator[str]:
    """Texts in pieces: the trainer holds a hundred bytes by byte of a text, and takes hours over a word of megabytes."""
    for text in texts:
        for stretch in _stretches(text, 2**16):
            yield from filter(None, _ENDLESS_WORD.split(stretch))


def save(backend: BackendTokenizer, folder: Path) -> None:
    """Write tokenizer.json and the two files transformers reads beside it."""
    names = SPECIAL_NAMES
    roles = {
        "unk_token": names["unknown"],
        "bos_token": names["bos"],
        "cls_token": names["bos"],
        "eos_token": names["eos"],
        "sep_token": names["eos"],
        "pad_token": names["pad"],
        "mask_token": names["mask"],
    }
    write_text(folder / "tokenizer.json", backend.to_str(pretty=True))
    write_json(folder / "special_tokens_map.json", roles)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **roles}
    write_json(folder / "tokenizer_config.json", config)


def _special_tokens(folder: Path, backend: BackendTokenizer) -> SpecialTokens:
    """Roles from tokenizer_config.json where there is one, else from the published names."""
    config_file = folder / "tokenizer_config.json"
    config = read_json(config_file) if config_file.exists() else {}

    def name(default: str, *keys: str) -> str:
        for key in keys:
            value = config.get(key)
            if value:
                return value["content"] if isinstance(value, dict) else str(value)
        return default

    wanted = {
        "unknown": name("[UNK]", "unk_token"),
        "bos": name("[CLS]", "bos_token", "cls_token"),
        "eos": name("[SEP]", "eos_token", "sep_token"),
        "pad": name("[PAD]", "pad_token"),
        "mask": name("[MASK]", "mask_token"),
    }
    ids = {}
    for role, token in wanted.items():
        token_id = backend.token_to_id(token)
        if token_id is None:
            raise invalid(
                "data.tokenizer", str(folder), f"has no {role} token {token!r}", "add it, or train one (tokenizer=null)"
            )
        ids[role] = token_id
    if len({ids[role] for role in ("bos", "eos", "pad", "mask")}) < 4:
        raise invalid("data.tokenizer", str(folder), f"shares ids between special tokens ({ids})", "use distinct ones")
    return SpecialTokens(**ids)


def policy_hash(tokenizer: Tokenizer) -> str:
    """One hash for everything that decides which ids a text becomes."""
    return hash_text(json.dumps([tokenizer.hash, asdict(tokenizer.special), POLICY]))
