"""Attention on a CPU tile by tile: some queries of one document against the one stretch of keys that holds all they can see.

PyTorch's own kernel computes each tile, so nothing is computed for other documents, and little beyond a window or after a
causal query. Forward and backward are one autograd function: it keeps the results and normalisers of the rows, as the kernel
would, and adds the gradients of keys that several tiles share in place. Always computed in fp32, because the kernel's backward
pass is slower in bf16 (NOTEBOOK.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ettin_core.foundation.errors import invalid
from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_mask import attention_mask

QUERIES = 128  # of a tile in a global layer whose queries do not all see the same keys; a local layer takes its window
CALL = 1024  # pairs of a query and a key that cost as much as the call for a tile

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Tile:
    """Queries begin..end of some rows, and the keys first..last (exclusive) that they can reach at most."""

    rows: slice
    queries: slice
    keys: slice

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key in one row."""
        return (self.queries.stop - self.queries.start) * (self.keys.stop - self.keys.start)


def tile_rows(document_ids: torch.Tensor, direction: str, window: int | None) -> list[Tile]:
    """The tiles of rows (B, S); every position is a query of exactly one. Rows that are laid out alike share their tiles."""
    alike = _alike(document_ids)
    tiles = []
    for number, row in enumerate(document_ids[:1] if alike else document_ids):
        rows = slice(0, len(document_ids)) if alike else slice(number, number + 1)
        edges = [0, *((row[1:] != row[:-1]).nonzero()[:, 0] + 1).tolist(), len(row)]
        for begin, end in zip(edges, edges[1:], strict=False):
            tiles += [Tile(rows, *stretches) for stretches in _of_document(begin, end, direction, window)]
    return tiles


def _alike(document_ids: torch.Tensor) -> bool:
    return bool((document_ids == document_ids[:1]).all())


def _of_document(begin: int, end: int, direction: str, window: int | None) -> list[tuple[slice, slice]]:
    """Queries and keys of the tiles of the document begin..end."""
    if window is None and direction == "bidirectional":
        return [(slice(begin, end), slice(begin, end))]
    stretches = []
    for first in range(begin, end, window or QUERIES):
        last = min(first + (window or QUERIES), end)
        before = begin if window is None else max(begin, first - window)
        after = end if window is None else min(end, last + window)
        stretches.append((slice(first, last), slice(before, last if direction == "causal" else after)))
    return stretches


def cost_less(document_ids: torch.Tensor, direction: str, window: int | None) -> bool:
    """Whether tiles cost less than all pairs of the rows at once."""
    if document_ids.shape[1] ** 2 <= CALL and not _alike(document_ids):
        return False  # a row has a call of its own or more
    tiles = tile_rows(document_ids, direction, window)
    cost = sum(tile.pairs * (tile.rows.stop - tile.rows.start) + CALL for tile in tiles)
    return cost < document_ids.numel() * document_ids.shape[1]


def make_attention(
    document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> AttentionFn:
    """See attention_backends.make_attention."""
    if document_ids.is_cuda:
        raise invalid("attention", "tiles", "works on CPUs only", "use auto")
    tiles = tile_rows(document_ids, direction, window)
    masked = list(zip(tiles, _masks(tiles, direction, window, prefix_mask), strict=True))

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return _Tiled.apply(query.float(), key.float(), value.float(), masked).to(value.dtype)

    return attend


def _masks(
    tiles: list[Tile], direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> Iterator[torch.Tensor | None]:
    """For each tile what is added to its scores, (…, Q, K): -inf where a key is not seen. None: all keys are seen.

    Without open keys it depends on the distance of query and key alone, so all are slices of one board.
    """
    if window is None and direction == "bidirectional":
        yield from (None for _ in tiles)
        return
    back = max(tile.queries.start - tile.keys.start for tile in tiles)
    ahead = max(tile.keys.stop - tile.queries.start for tile in tiles)
    queries = torch.arange(max(tile.queries.stop - tile.queries.start for tile in tiles))
    offset = back + queries[:, None] - torch.arange(back + ahead)[None, :]
    board = None if direction == "prefix" else _hidden(offset, direction, window, None)
    for tile in tiles:
        columns = slice(back + tile.keys.start - tile.queries.start, back + tile.keys.stop - tile.queries.start)
        place = slice(0, tile.queries.stop - tile.queries.start), columns
        if board is not None:
            mask = board[place]
        else:
            assert prefix_mask is not None, "a prefix direction knows which keys are open"
            mask = _hidden(offset[place], direction, window, prefix_mask[tile.rows, tile.keys])
            mask = mask.reshape(-1, 1, *offset[place].shape)
        yield mask if mask.any() else None


def _hidden(offset: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None) -> torch.Tensor:
    """-inf where a key of the same document is not seen at an offset (Q, K), else 0."""
    document_ids = [torch.zeros(size, dtype=torch.int64) for size in offset.shape]
    seen = attention_mask(document_ids[0], document_ids[1], offset, direction, window, prefix_mask)
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        masked: list[tuple[Tile, torch.Tensor | None]],
    ) -> torch.Tensor:
        result, normaliser = torch.empty_like(query), query.new_empty(query.shape[:3])
        for tile, mask in masked:
            rows, queries, keys = tile.rows, tile.queries, tile.keys
            parts = query[rows, :, queries], key[rows, :, keys], value[rows, :, keys]
            result[rows, :, queries], normaliser[rows, :, queries] = _forward(*parts, attn_mask=mask)
        ctx.masked = masked
        ctx.save_for_backward(query, key, value, result, normaliser)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, result, normaliser = ctx.saved_tensors
        for_query, for_key, for_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for tile, mask in ctx.masked:
            rows, queries, keys = tile.rows, tile.queries, tile.keys
            of_queries = (gradient[rows, :, queries], query[rows, :, queries])
            of_keys = (key[rows, :, keys], value[rows, :, keys])
            results = (result[rows, :, queries], normaliser[rows, :, queries])
            gradients = _backward(*of_queries, *of_keys, *results, 0.0, False, attn_mask=mask)
            for_query[rows, :, queries] = gradients[0]
            for_key[rows, :, keys] += gradients[1]
            for_value[rows, :, keys] += gradients[2]
        return for_query, for_key, for_value, None
