"""The names of our tensors and of Hugging Face's, as one table.

Two layouts exist: "encoder" (`ModernBertForMaskedLM`) fuses query, key and value as we do, "decoder"
(`ModernBertDecoderForCausalLM`) keeps three matrices. Everything else is a renaming, so a round trip is bitwise exact.
The output matrix is tied to the embedding and therefore has no row: transformers saves one copy, and so do we.
"""

from dataclasses import dataclass

import torch

from ettin_core.foundation.errors import invalid, unknown

State = dict[str, torch.Tensor]

LAYOUTS = ("encoder", "decoder")
TIED_COPY, TIED_TO = "decoder.weight", "model.embeddings.tok_embeddings.weight"


@dataclass(frozen=True)
class WeightRule:
    """A native tensor, its shape in letters, and its parts (stacked along the first dimension) in each layout."""

    native: str
    shape: tuple[str, ...]
    encoder: tuple[str, ...]
    decoder: tuple[str, ...]

    def parts(self, layout: str) -> tuple[str, ...]:
        """The Hugging Face names that make up this tensor."""
        return self.encoder if layout == "encoder" else self.decoder


def _same(native: str, shape: tuple[str, ...], huggingface: str) -> WeightRule:
    return WeightRule(native, shape, (huggingface,), (huggingface,))


_LAYER = "model.layers.{layer}"
_PROJECTIONS = tuple(f"{_LAYER}.attn.{part}_proj.weight" for part in "qkv")

PER_LAYER = (
    _same("layers.{layer}.attention_norm.weight", ("H",), f"{_LAYER}.attn_norm.weight"),
    WeightRule(
        "layers.{layer}.attention.query_key_value.weight", ("3H", "H"), (f"{_LAYER}.attn.Wqkv.weight",), _PROJECTIONS
    ),
    _same("layers.{layer}.attention.output.weight", ("H", "H"), f"{_LAYER}.attn.Wo.weight"),
    _same("layers.{layer}.mlp_norm.weight", ("H",), f"{_LAYER}.mlp_norm.weight"),
    _same("layers.{layer}.mlp.input.weight", ("2I", "H"), f"{_LAYER}.mlp.Wi.weight"),
    _same("layers.{layer}.mlp.output.weight", ("H", "I"), f"{_LAYER}.mlp.Wo.weight"),
)
ONCE = (
    _same("embedding.weight", ("V", "H"), TIED_TO),
    _same("embedding_norm.weight", ("H",), "model.embeddings.norm.weight"),
    _same("final_norm.weight", ("H",), "model.final_norm.weight"),
    WeightRule("head.dense.weight", ("H", "H"), ("head.dense.weight",), ("lm_head.dense.weight",)),
    WeightRule("head.norm.weight", ("H",), ("head.norm.weight",), ("lm_head.norm.weight",)),
    _same("output_bias", ("V",), "decoder.bias"),
)
ABSENT = {"layers.0.attention_norm.weight"}  # the first layer's input is the normed embedding already


def rows(num_layers: int) -> list[WeightRule]:
    """Every row of the table for a model of `num_layers`, with the layer filled in."""
    table = list(ONCE)
    for layer in range(num_layers):
        for row in PER_LAYER:
            native = row.native.format(layer=layer)
            if native not in ABSENT:
                encoder, decoder = (tuple(name.format(layer=layer) for name in row.parts(layout)) for layout in LAYOUTS)
                table.append(WeightRule(native, row.shape, encoder, decoder))
    return table


def to_huggingface(state: State, layout: str, num_layers: int) -> State:
    """Rename a native state for `layout`; the tied output matrix is left out, as transformers saves it.

    Raises ValueError naming the first tensor that is missing, unknown or wrongly shaped.
    """
    table = _checked_table(layout, num_layers)
    _check_names(state, {row.native for row in table})
    sizes = _sizes(state["embedding.weight"], state["layers.0.mlp.output.weight"])
    result: State = {}
    for row in table:
        tensor = state[row.native].detach()
        _check_shape(row.native, tensor, [sizes[letter] for letter in row.shape])
        names = row.parts(layout)
        # Parts of a split tensor are copied, because safetensors rejects tensors that share memory.
        pieces = [tensor] if len(names) == 1 else [piece.clone() for piece in tensor.chunk(len(names))]
        result.update(zip(names, pieces, strict=True))
    return result


def from_huggingface(state: State, layout: str, num_layers: int) -> State:
    """The native state of a Hugging Face state: the inverse of `to_huggingface`.

    A tied output matrix may be present if it equals the embedding. Raises ValueError naming the first tensor that is
    missing, unknown, wrongly shaped or no longer tied.
    """
    table = _checked_table(layout, num_layers)
    _check_names(state, {name for row in table for name in row.parts(layout)}, optional=frozenset({TIED_COPY}))
    if TIED_COPY in state and not torch.equal(state[TIED_COPY], state[TIED_TO]):
        raise invalid("tensor", TIED_COPY, f"differs from {TIED_TO}", "give a model with tied embeddings")
    sizes = _sizes(state[TIED_TO], state["model.layers.0.mlp.Wo.weight"])
    result = {}
    for row in table:
        names = row.parts(layout)
        first, *rest = (sizes[letter] for letter in row.shape)
        for name in names:
            _check_shape(name, state[name], [first // len(names), *rest])
        pieces = [state[name].detach() for name in names]
        result[row.native] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return result


def _checked_table(layout: str, num_layers: int) -> list[WeightRule]:
    if layout not in LAYOUTS:
        raise unknown("layout", layout, "is not a layout", LAYOUTS)
    return rows(num_layers)


def _check_names(state: State, expected: set[str], optional: frozenset[str] = frozenset()) -> None:
    for name in sorted(expected - set(state)):
        raise invalid("tensor", name, "is missing", "give the state of a whole model with this number of layers")
    for name in sorted(set(state) - expected - optional):
        raise invalid("tensor", name, "is unknown", "give the state of a model of this layout and number of layers")


def _sizes(embedding: torch.Tensor, mlp_output: torch.Tensor) -> dict[str, int]:
    """The value of each letter in the table's shapes, read from two tensors that are later checked like all others."""
    vocabulary, hidden = embedding.shape
    intermediate = mlp_output.shape[-1]
    return {"V": vocabulary, "H": hidden, "3H": 3 * hidden, "I": intermediate, "2I": 2 * intermediate}


def _check_shape(name: str, tensor: torch.Tensor, expected: list[int]) -> None:
    if list(tensor.shape) != expected:
        raise invalid("tensor", name, f"has shape {list(tensor.shape)}, not {expected}", "give tensors of one model")
