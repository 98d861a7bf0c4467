"""Every backend equals a loop over queries that is written here and shares nothing with the library."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ettin_core.model import attention_backends
from ettin_core.model.attention_backends import AttentionFn, flex, make_attention, sdpa, tiles
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.config import DIRECTIONS

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


def prefix_mask_of(documents: torch.Tensor, direction: str) -> torch.Tensor | None:
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


def dense(documents: torch.Tensor, direction: str, window: int | None) -> AttentionFn:
    mask = row_attention_mask(documents, direction, window, prefix_mask_of(documents, direction))[:, None]
    return functools.partial(sdpa.fused, mask=mask)


def prepared(backend: str) -> Callable[[torch.Tensor, str, int | None], AttentionFn]:
    return lambda documents, direction, window: make_attention(
        backend, documents, direction, window, prefix_mask_of(documents, direction)
    )


def blocked(documents: torch.Tensor, direction: str, window: int) -> AttentionFn:
    return sdpa.blocked(documents, direction, window, prefix_mask_of(documents, direction))


BACKENDS: dict[str, Callable[[torch.Tensor, str, int | None], AttentionFn]] = {
    "reference": prepared("reference"),
    "fused": dense,
    "tiles": prepared("tiles"),
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
    monkeypatch.setattr(flex, "compiled_flex", lambda: (flex_attention, create_block_mask))
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
    documents, prefix_mask = documents_of(kind), prefix_mask_of(documents_of(kind), direction)
    attend = make_attention(
        "flex", documents.cuda(), direction, window, None if prefix_mask is None else prefix_mask.cuda()
    )
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


@pytest.mark.parametrize("window", [WINDOW, None], ids=["local", "global"])
@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
@pytest.mark.parametrize("length", [1, 4, 5, 16])
def test_rows_of_one_length_need_no_mask_of_their_own(
    length: int, direction: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[torch.Size] = []
    made = sdpa.row_attention_mask
    monkeypatch.setattr(sdpa, "row_attention_mask", lambda *given: masks.append(given[0].shape) or made(*given))
    documents, states = torch.zeros(2, length, dtype=torch.long), random_states(length=length)
    output = make_attention("sdpa", documents, direction, window)(*states)
    expected = query_by_query(states, documents, direction, window)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    assert masks == ([(1, length)] if window is not None and length > window + 1 else [])


@pytest.mark.parametrize(("length", "window", "blocks"), [(17, 4, True), (16, 4, False), (100, None, False)])
def test_sdpa_takes_blocks_where_a_local_row_is_long(
    length: int, window: int | None, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(sdpa, "blocked", lambda *arguments: taken.append(arguments))
    make_attention("sdpa", torch.zeros(1, length, dtype=torch.long), "causal", window)
    assert bool(taken) == blocks


@pytest.mark.parametrize(
    ("rows", "lengths", "backend"),
    [(2, [1024], "tiles"), (1, [200] * 5, "tiles"), (32, [9, 7], "sdpa"), (1, [1] * 60, "sdpa"), (8, [256], "tiles")],
)
@pytest.mark.parametrize(("direction", "window"), [("causal", None), ("bidirectional", 64)])
def test_auto_takes_tiles_unless_their_calls_cost_more_than_they_spare(
    rows: int, lengths: list[int], backend: str, direction: str, window: int | None
) -> None:
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    documents = torch.stack([row.roll(shift) if backend == "sdpa" else row for shift in range(rows)])
    assert attention_backends.choose_backend(documents, direction, window) == backend


LENGTHS = [1, 2, 63, 64, 65, 129, 200]


@pytest.mark.parametrize("window", [64, None], ids=["local", "global"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("backend", ["sdpa", "tiles"])
def test_documents_of_any_length_in_one_row_equal_the_reference(
    backend: str, direction: str, window: int | None
) -> None:
    """Values and all gradients, at the edges of tiles, blocks and windows; a second row is laid out otherwise."""
    row = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    documents = torch.stack([row, row.flip(0)])
    weights, results = random_states(seed=1, length=len(row))[0], []
    for name in ("reference", backend):
        states = [tensor.requires_grad_() for tensor in random_states(length=len(row))]
        output = make_attention(name, documents, direction, window, prefix_mask_of(documents, direction))(*states)
        (output * weights).sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in states)])
    for expected, tensor in zip(*results, strict=True):
        assert expected is not None and tensor is not None
        assert (tensor - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
def test_every_position_is_the_query_of_one_tile(direction: str) -> None:
    documents = torch.stack([torch.arange(300) // 130, torch.arange(300) // 7])
    for window in (64, None):
        seen = torch.zeros(documents.shape, dtype=torch.int64)
        for tile in tiles.tile_rows(documents, direction, window):
            seen[tile.rows, tile.queries] += 1
            assert len(documents[tile.rows, tile.keys].unique()) == 1
        assert (seen == 1).all()


def test_rows_laid_out_alike_share_their_tiles() -> None:
    alike = tiles.tile_rows(torch.zeros(8, 256, dtype=torch.long), "bidirectional", 64)
    assert len(alike) == 4 and all(tile.rows == slice(0, 8) for tile in alike)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_tiles_of_bf16_are_computed_in_fp32(direction: str) -> None:
    documents = documents_of("packed")
    states = [tensor.bfloat16() for tensor in random_states()]
    output = make_attention("tiles", documents, direction, WINDOW, prefix_mask_of(documents, direction))(*states)
    exact = make_attention("reference", documents, direction, WINDOW, prefix_mask_of(documents, direction))(
        *(s.float() for s in states)
    )
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact.bfloat16()) or (output.float() - exact).abs().max() < 2**-8 * exact.abs().max()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention='flash'.*use one of auto, reference"):
        make_attention("flash", torch.zeros(1, 4, dtype=torch.long), "causal", None)


@pytest.mark.parametrize(("direction", "keys"), [("bidirectional", 129), ("causal", 65)])
def test_a_window_of_64_shows_129_keys_to_an_encoder_and_65_to_a_decoder(direction: str, keys: int) -> None:
    seen = row_attention_mask(torch.zeros(1, 200, dtype=torch.long), direction, 64)[0]
    assert seen[100].sum() == keys
