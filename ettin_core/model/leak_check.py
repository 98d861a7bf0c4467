"""The start-up self-test: perturb tokens of the real model and see which outputs move. A leak ends the run before training.

What should move follows from a plain loop over the written definition (`may_see`). It shares nothing with the code that makes
masks (model/attention_mask.py), so a wrong rule there is caught here.
"""

from collections.abc import Callable

import torch

from ettin_core.model.attention_backends import AttentionFn, possible_backends
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Angles, Attention, Transformer

SMALL = 1 / 32


class LeakError(RuntimeError):
    """A token influenced an output that must not see it, or failed to reach one that must."""


def may_see(
    query: int, key: int, document_ids: list[int], direction: str, window: int | None, prefix_mask: list[bool] | None
) -> bool:
    """The definition: whether the query at one position of a row sees the key at another; `window` None means a global layer.

    Within the same document only. Bidirectional: every key, in a local layer those at most `window` positions away. Causal:
    of those the query's own and earlier ones. Prefix: open keys as if bidirectional, the others as if causal.
    """
    if document_ids[query] != document_ids[key]:
        return False
    if window is not None and max(query - key, key - query) > window:
        return False
    if direction == "bidirectional" or (direction == "prefix" and prefix_mask is not None and prefix_mask[key]):
        return True
    return key <= query


def _moved_by_definition(
    key: int, document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> torch.Tensor:
    """Which outputs (S,) of the probe row see the key."""
    row, open_row = document_ids[0].tolist(), None if prefix_mask is None else prefix_mask[0].tolist()
    seen = [may_see(query, key, row, direction, window, open_row) for query in range(len(row))]
    return torch.tensor(seen, device=document_ids.device)


def _probe_rows(
    model: Transformer, direction: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """One row of two documents, the first longer than four windows: every edge of a window is inside it, and a local
    layer takes the same way through its backend as it does on long training rows. Of each document half is open.
    """
    device = model.embedding.weight.device
    lengths = (4 * model.config.local_window + 9, model.config.local_window // 2 + 3)
    document_ids = torch.cat([torch.full((n,), number) for number, n in enumerate(lengths)])[None]
    position_ids = torch.cat([torch.arange(n) for n in lengths])[None]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, document_ids.shape, generator=generator)
    prefix_mask = position_ids < torch.tensor(lengths)[document_ids] // 2 if direction == "prefix" else None
    return (
        tokens.to(device),
        document_ids.to(device),
        position_ids.to(device),
        None if prefix_mask is None else prefix_mask.to(device),
    )


@torch.no_grad()
def check_no_leak(model: Transformer, view: AttentionSpec, forward: Callable[..., torch.Tensor] | None = None) -> None:
    """Raises LeakError if outputs of a model depend on tokens that its direction hides.

    Whole model: changing one token may move only outputs that see it: of the same document and, under a causal direction, not
    earlier. Under a prefix direction a token of the prefix may also move earlier outputs.
    Each layer, with the mask that the model gives it: changing one input state must move exactly the outputs of the
    definition. A mask that hides too much is as wrong as one that leaks. Where `auto` chooses the backend by the rows, every
    possible backend is tested. `forward` is the callable that training will use, such as the compiled model (None: the model).
    """
    was_training, asked = model.training, model.attention_backend
    model.eval()
    try:
        _check_model(model, view, model if forward is None else forward)  # a compiled model has no truth value
        for backend in possible_backends(asked, model.embedding.weight.device):
            model.attention_backend = backend
            for index, handed in enumerate(_handed_over(model, view)):
                _check_layer(model, view, index, *handed)
    finally:
        model.attention_backend = asked
        model.train(was_training)


def _check_model(model: Transformer, view: AttentionSpec, forward: Callable[..., torch.Tensor]) -> None:
    tokens, document_ids, position_ids, prefix_mask = _probe_rows(model, view.direction)
    before = forward(tokens, document_ids, position_ids, view, prefix_mask)
    if not torch.isfinite(before).all():
        raise LeakError(
            "the weights give outputs that are not finite numbers, so the model can be neither tested nor trained"
        )
    length = tokens.shape[1]
    first = int((document_ids == 0).sum())
    for changed in (0, first // 2, first - 1, first, length - 1):
        altered = tokens.clone()
        altered[0, changed] = (altered[0, changed] + 1) % model.config.vocab_size
        moved = (forward(altered, document_ids, position_ids, view, prefix_mask) != before).any(-1)[0]
        allowed = _moved_by_definition(changed, document_ids, view.direction, None, prefix_mask)
        leaked = torch.nonzero(moved & ~allowed).flatten().tolist()
        if leaked:
            raise LeakError(
                f"direction={view.direction}: changing token {changed} moved outputs {leaked[:8]} that must not see it"
            )
        if not moved[changed]:
            raise LeakError(f"direction={view.direction}: changing token {changed} did not move its own output")


def _handed_over(model: Transformer, view: AttentionSpec) -> list[tuple[Angles, AttentionFn]]:
    """The rotary angles and the attention function that each layer is handed in a forward pass over the probe row."""
    tokens, document_ids, position_ids, prefix_mask = _probe_rows(model, view.direction)
    seen: list[tuple[Angles, AttentionFn]] = []
    hooks = [
        layer.attention.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[1], inputs[2])))  # type: ignore[union-attr]
        for layer in model.layers
    ]
    try:
        model(tokens, document_ids, position_ids, view, prefix_mask)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _check_layer(model: Transformer, view: AttentionSpec, index: int, angles: Angles, attend: AttentionFn) -> None:
    _, document_ids, _, prefix_mask = _probe_rows(model, view.direction)
    config = model.config
    window = None if index % config.global_every == 0 else config.local_window
    direction = view.directions(config.num_layers)[index]
    attention: Attention = model.layers[index].attention  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(index)
    # Small states keep the softmax flat even for trained weights, so that every visible key has a weight that shows.
    states = SMALL * torch.randn(1, document_ids.shape[1], config.hidden_size, generator=generator).to(
        document_ids.device
    )
    before = attention(states, angles, attend)
    second = int((document_ids == 0).sum())
    for changed in (0, config.local_window + 4, second - 1, second, document_ids.shape[1] - 1):
        altered = states.clone()
        altered[0, changed] += SMALL
        moved = (attention(altered, angles, attend) != before).any(-1)[0]
        expected = _moved_by_definition(changed, document_ids, direction, window, prefix_mask)
        wrong = torch.nonzero(moved != expected).flatten().tolist()
        if wrong:
            raise LeakError(
                f"layer {index} ({'global' if window is None else 'local'}, {direction}): input {changed} is seen wrongly "
                f"at outputs {wrong[:8]}; the mask of the model (attention={model.attention_backend}) is not that of the "
                "definition"
            )
