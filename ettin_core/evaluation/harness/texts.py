"""How texts become tokens in the harness, the same for every member, and what is counted because scores depend on it.

A literal special token in a text ([MASK], <|endoftext|>) is letters, where `hf` reads one special token. A text or context
of which nothing is left is BOS alone, or EOS where the tokenizer adds no BOS. A chat template writes special tokens on
purpose: with one, they are read as such.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from ettin_core.foundation.errors import invalid

LITERAL, FUSED = "literal_special_tokens", "fused_continuations"
COUNTED = {  # by the names they have in the records
    LITERAL: "with a special token as text, which is read as letters (lm-eval's hf reads one token)",
    FUSED: "whose continuation begins inside a token of its context, so that its first letters are not scored",
}


class LettersLM(HFLM):
    """lm-eval's `hf`, but for special tokens in texts and contexts of which nothing is left."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tokenizer.split_special_tokens = True
        self.fused: set[tuple[str, ...]] = set()  # the (context, continuation) pairs that are (scoring.Pair)
        self._items: dict[str, dict[str, set[int | None]]] = {name: {} for name in COUNTED}
        special = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    @property
    def has_template(self) -> bool:
        """Whether a chat template wrote the texts."""
        return not self.tokenizer.split_special_tokens

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Of each kind in COUNTED the number of items by task; tasks without any are left out."""
        return {kind: {task: len(items) for task, items in tasks.items()} for kind, tasks in self._items.items()}

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context. Raises ValueError for a tokenizer that has neither BOS nor EOS."""
        token: int | None = super().prefix_token_id
        if token is None:
            remedy = "add bos_token or eos_token to its tokenizer_config.json"
            raise invalid("tokenizer", type(self.tokenizer).__name__, "has no token to begin a text", remedy)
        return token

    def apply_chat_template(self, *arguments: Any, **options: Any) -> str:
        """A chat as the template writes it; from then on special tokens are read as such."""
        self.tokenizer.split_special_tokens = False
        return str(super().apply_chat_template(*arguments, **options))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """Token ids. `hf` adds no BOS to a text that begins with its letters; here they are text."""
        if add_special_tokens is None and not self.has_template:
            add_special_tokens = self._adds_special
        return list(super().tok_encode(string, add_special_tokens, **options))

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded ids and mask (B, S) of texts, as `hf` makes them, each text by itself and none of them empty."""
        limit = {"truncation": True} if truncation else {}
        rows = [self.tok_encode(string, **limit) or [self.prefix_token_id] for string in strings]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), None) if padding_side == "left" else slice(len(row))
            ids[number, place], mask[number, place] = torch.tensor(row), 1
        kept = slice(-left_truncate_len if left_truncate_len else None, None)
        return ids[:, kept], mask[:, kept]

    @property
    def _adds_special(self) -> bool:
        return True if self.add_bos_token is None else bool(self.add_bos_token)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        whole, alone = self.tok_encode(context + continuation), self.tok_encode(context.rstrip())
        if whole[: len(alone)] != alone:
            self.fused.add((context, continuation))
        return alone or [self.prefix_token_id], whole[len(alone) :]

    def count(self, requests: Sequence[Instance]) -> None:
        """Count the items that are of a kind in COUNTED, and print how many there are."""
        changed: dict[tuple[str, str], set[int | None]] = {}
        for request in requests:
            texts = tuple(text for text in request.args if isinstance(text, str))
            if not self.has_template and self._special.search("".join(texts)):
                changed.setdefault((LITERAL, str(request.task_name)), set()).add(request.doc_id)
            if texts in self.fused:
                changed.setdefault((FUSED, str(request.task_name)), set()).add(request.doc_id)
        for (kind, task), items in changed.items():
            self._items[kind].setdefault(task, set()).update(items)
            tqdm.write(f"{task}: {len(items)} item(s) {COUNTED[kind]}.", file=sys.stderr)
