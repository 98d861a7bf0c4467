"""Ways to compute the same attention, one in each file.

A backend makes its masks once per forward pass: they depend on the row layout, not on the layer. Every layer then calls it
with queries, keys and values of shape (B, A, S, D). The equality of all backends is tested. `auto` takes

    flex        on a GPU
    sdpa        on a CPU under torch.compile, where shapes must not depend on the documents, and for rows so short that calls
                of a kernel cost more than the keys that nobody sees
    tiles       on a CPU otherwise
    reference   never: the others are tested against it

Evaluation and fine-tuning take `backend_of_varied_rows`. What rows of branches see has a file of its own.
"""

import torch

from ettin_core.foundation.errors import unknown
from ettin_core.model.attention_backends import flex, reference, sdpa, tiles
from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_backends.sdpa import make_attention_at
from ettin_core.model.config import BACKENDS

__all__ = ["AttentionFn", "backend_of_varied_rows", "make_attention", "make_attention_at", "possible_backends"]

BACKEND_FACTORIES = {
    "reference": reference.make_attention,
    "sdpa": sdpa.make_attention,
    "tiles": tiles.make_attention,
    "flex": flex.make_attention,
}
assert ("auto", *BACKEND_FACTORIES) == BACKENDS, "model/config.py names the backends for modules without torch"


def make_attention(
    backend: str,
    document_ids: torch.Tensor,
    direction: str,
    window: int | None,
    prefix_mask: torch.Tensor | None = None,
) -> AttentionFn:
    """The attention function of one layer kind (`window` None: global) for rows laid out as `document_ids` (B, S).

    `prefix_mask` (B, S) bool belongs to a prefix direction (model/attention_mask.py). Raises ValueError for an unknown name.
    """
    if backend == "auto":
        backend = choose_backend(document_ids, direction, window)
    if backend not in BACKEND_FACTORIES:
        raise unknown("attention", backend, "is not an attention backend", BACKENDS)
    return BACKEND_FACTORIES[backend](document_ids, direction, window, prefix_mask)


def possible_backends(backend: str, device: torch.device) -> tuple[str, ...]:
    """The backends that may compute where `backend` is asked for."""
    if backend != "auto":
        return (backend,)
    return ("flex",) if device.type == "cuda" else ("sdpa", "tiles")


def backend_of_varied_rows(device: torch.device) -> str:
    """The backend for rows of many widths, each of which flex would be compiled for."""
    return "sdpa" if device.type == "cuda" else "auto"


def choose_backend(document_ids: torch.Tensor, direction: str, window: int | None) -> str:
    """The backend that `auto` takes."""
    if document_ids.is_cuda:
        return "flex"
    if torch.compiler.is_compiling() or not tiles.cost_less(document_ids, direction, window):
        return "sdpa"
    return "tiles"
