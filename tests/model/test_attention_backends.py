"""Every backend equals a loop over queries that is written here and shares nothing with the library."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ettin_core.model import attention_backends
from ettin_core.model.attention_backends import Attend, prepare
from ettin_core.model.config import DIRECTIONS
from ettin_core.model.visibility import row_visibility

WINDOW, LENGTH = 4, 30
ROWS = {
    "one document": [[30], [30]],
    "packed": [[11, 1, 18], [3, 27]],
    "padded": [[30], [17]],
}


def documents_of(kind: str) -> torch.Tensor:
    documents = torch.full((2, LENGTH), -1)
    for row, lengths in enumerate(ROWS[kind]):
        numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        documents[row, : len(numbers)] = numbers
    return documents


def opened(documents: torch.Tensor, direction: str) -> torch.Tensor | None:
    """The first five tokens of each document, under a prefix direction."""
    if direction != "prefix":
        return None
    return torch.stack(
        [torch.tensor([row[:i].count(row[i]) < 5 for i in range(len(row))]) for row in documents.tolist()]
    )


def sees(documents: list[int], i: int, j: int, direction: str, window: int | None) -> bool:
    if documents[i] != documents[j] or (direction == "causal" and j > i):
        return False
    if direction == "prefix" and j > i and documents[:j].count(documents[j]) >= 5:
        return False
    return window is None or abs(i - j) <= window


def query_by_query(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    documents: torch.Tensor,
    direction: str,
    window: int | None,
) -> torch.Tensor:
    query, key, value = (tensor.double() for tensor in states)
    output = torch.empty_like(query)
    for b, row in enumerate(documents.tolist()):
        for i in range(len(row)):
            keys = [j for j in range(len(row)) if sees(row, i, j, direction, window)]
            scores = torch.einsum("ad,akd->ak", query[b, :, i], key[b][:, keys]) / query.shape[-1] ** 0.5
            output[b, :, i] = torch.einsum("ak,akd->ad", scores.softmax(-1), value[b][:, keys])
    return output.float()


def dense(documents: torch.Tensor, direction: str, window: int | None) -> Attend:
    mask = row_visibility(documents, direction, window, opened(documents, direction))[:, None]
    return functools.partial(attention_backends._fused, mask=mask)


def prepared(backend: str) -> Callable[[torch.Tensor, str, int | None], Attend]:
    return lambda documents, direction, window: prepare(
        backend, documents, direction, window, opened(documents, direction)
    )


def blocked(documents: torch.Tensor, direction: str, window: int) -> Attend:
    return attention_backends._blocked(documents, direction, window, opened(documents, direction))


BACKENDS: dict[str, Callable[[torch.Tensor, str, int | None], Attend]] = {
    "reference": prepared("reference"),
    "fused": dense,
    "sdpa": prepared("sdpa"),  # blocks for the local layer, dense for the global one
    "flex": prepared("flex"),
}


def random_states(seed: int = 0, length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 2, 2, length, 8, generator=generator)
    return query, key, value


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [WINDOW, None], ids=["local", "global"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_equals_the_loop(
    backend: str, kind: str, direction: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compiling flex for a CPU takes half a minute; uncompiled, it shows the same keys.
    monkeypatch.setattr(attention_backends, "_compiled_flex", lambda: (flex_attention, create_block_mask))
    states, documents = random_states(), documents_of(kind)
    with torch.no_grad():
        output = BACKENDS[backend](documents, direction, window)(*states)
    torch.testing.assert_close(output, query_by_query(states, documents, direction, window), rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: flex attention is compiled for GPUs only")
@pytest.mark.parametrize("window", [WINDOW, None], ids=["local", "global"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", ROWS)
def test_compiled_flex_equals_the_loop(kind: str, direction: str, window: int | None) -> None:
    query, key, value = (torch.cat([part, part], dim=-1) for part in random_states())  # heads of 16, the least it takes
    documents, open_keys = documents_of(kind), opened(documents_of(kind), direction)
    attend = prepare("flex", documents.cuda(), direction, window, None if open_keys is None else open_keys.cuda())
    expected = query_by_query((query, key, value), documents, direction, window)
    output = attend(query.cuda(), key.cuda(), value.cuda()).cpu()
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 15, 16, 17, 29])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_blocks_fit_any_row_length(direction: str, length: int) -> None:
    states = random_states(length=length)
    documents = torch.arange(length).div(6, rounding_mode="floor").repeat(2, 1)
    output = blocked(documents, direction, WINDOW)(*states)
    expected = query_by_query(states, documents, direction, WINDOW)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", ROWS)
def test_gradients_of_blocks_equal_those_of_dense(kind: str, direction: str) -> None:
    documents = documents_of(kind)
    weights = random_states(seed=1)[0]
    gradients = []
    for attend in (blocked(documents, direction, WINDOW), dense(documents, direction, WINDOW)):
        states = [tensor.requires_grad_() for tensor in random_states()]
        (attend(*states) * weights).sum().backward()
        gradients.append([tensor.grad for tensor in states])
    for in_blocks, whole in zip(*gradients, strict=True):
        assert whole is not None and whole.abs().sum() > 0
        torch.testing.assert_close(in_blocks, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("length", "window", "blocks"), [(17, 4, True), (16, 4, False), (100, None, False)])
def test_auto_takes_blocks_where_a_local_row_is_long(
    length: int, window: int | None, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(attention_backends, "_blocked", lambda *arguments: taken.append(arguments))
    prepare("auto", torch.zeros(1, length, dtype=torch.long), "causal", window)
    assert bool(taken) == blocks


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention='flash'.*use one of auto, reference"):
        prepare("flash", torch.zeros(1, 4, dtype=torch.long), "causal", None)


@pytest.mark.parametrize(("direction", "keys"), [("bidirectional", 129), ("causal", 65)])
def test_a_window_of_64_shows_129_keys_to_an_encoder_and_65_to_a_decoder(direction: str, keys: int) -> None:
    seen = row_visibility(torch.zeros(1, 200, dtype=torch.long), direction, 64)[0]
    assert seen[100].sum() == keys
