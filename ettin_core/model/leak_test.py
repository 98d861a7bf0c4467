"""The start-up self-test: perturb tokens of the real model and see which outputs move. A leak refuses to train."""

from collections.abc import Callable

import torch

from ettin_core.model.attention_backends import prepare
from ettin_core.model.config import View
from ettin_core.model.transformer import Attention, Transformer, rotary_angles
from ettin_core.model.visibility import row_visibility

SMALL = 1 / 32


class LeakError(RuntimeError):
    """A token influenced an output that must not see it, or failed to reach one that must."""


def _probe_rows(
    model: Transformer, direction: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """One row of two documents, the first longer than four windows: every edge of a window is inside it, and a local
    layer takes the same way through its backend as it does on long training rows. Of each document half is open.
    """
    device = model.embedding.weight.device
    lengths = (4 * model.config.local_window + 9, model.config.local_window // 2 + 3)
    documents = torch.cat([torch.full((n,), number) for number, n in enumerate(lengths)])[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, documents.shape, generator=generator)
    open_keys = positions < torch.tensor(lengths)[documents] // 2 if direction == "prefix" else None
    return (
        tokens.to(device),
        documents.to(device),
        positions.to(device),
        None if open_keys is None else open_keys.to(device),
    )


@torch.no_grad()
def check_no_leak(model: Transformer, view: View, forward: Callable[..., torch.Tensor] | None = None) -> None:
    """Refuse (LeakError) a model whose outputs depend on tokens that its direction hides.

    Whole model: changing one token may move only outputs of its own document, and under a causal view only its own and
    later ones; under a prefix view these, and those of the prefix where the token is in it. Each layer: changing one input
    state must move exactly the outputs the visibility rule names, edges included (a mask that hides too much is as wrong as
    one that leaks).
    `forward` is the callable that training will use (for instance the compiled model); default is the model itself.
    """
    was_training = model.training
    model.eval()
    try:
        _check_model(model, view, model if forward is None else forward)  # a compiled model has no truth value
        for index in range(model.config.num_layers):
            _check_layer(model, view, index)
    finally:
        model.train(was_training)


def _check_model(model: Transformer, view: View, forward: Callable[..., torch.Tensor]) -> None:
    tokens, documents, positions, open_keys = _probe_rows(model, view.direction)
    allowed = row_visibility(documents, view.direction, None, open_keys)[0]
    before = forward(tokens, documents, positions, view, open_keys)
    if not torch.isfinite(before).all():
        raise LeakError(
            "the weights give outputs that are not finite numbers; nothing can be tested or trained on them"
        )
    length = tokens.shape[1]
    first = int((documents == 0).sum())
    for changed in (0, first // 2, first - 1, first, length - 1):
        altered = tokens.clone()
        altered[0, changed] = (altered[0, changed] + 1) % model.config.vocab_size
        moved = (forward(altered, documents, positions, view, open_keys) != before).any(-1)[0]
        leaked = torch.nonzero(moved & ~allowed[:, changed]).flatten().tolist()
        if leaked:
            raise LeakError(
                f"direction={view.direction}: changing token {changed} moved outputs {leaked[:8]} that must not see it"
            )
        if not moved[changed]:
            raise LeakError(f"direction={view.direction}: changing token {changed} did not move its own output")


def _check_layer(model: Transformer, view: View, index: int) -> None:
    _, documents, positions, open_keys = _probe_rows(model, view.direction)
    config = model.config
    window = None if config.is_global(index) else config.local_window
    base = view.rope_base_global if window is None else view.rope_base_local
    attend = prepare(model.attention_backend, documents, view.direction, window, open_keys)
    angles = rotary_angles(positions, config.head_size, base)
    attention: Attention = model.layers[index].attention  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(index)
    # Small states keep the softmax flat even for trained weights, so that every visible key has a weight that shows.
    states = SMALL * torch.randn(1, documents.shape[1], config.hidden_size, generator=generator).to(documents.device)
    before = attention(states, angles, attend)
    expected = row_visibility(documents, view.direction, window, open_keys)[0]
    for changed in (0, config.local_window + 4, documents.shape[1] - 1):
        altered = states.clone()
        altered[0, changed] += SMALL
        moved = (attention(altered, angles, attend) != before).any(-1)[0]
        wrong = torch.nonzero(moved != expected[:, changed]).flatten().tolist()
        if wrong:
            raise LeakError(
                f"layer {index} ({'global' if window is None else 'local'}, {view.direction}): input {changed} is seen "
                f"wrongly at outputs {wrong[:8]}; the attention backend {model.attention_backend!r} breaks the mask rule"
            )
