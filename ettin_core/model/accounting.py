"""What a model costs: parameters by group, floating-point operations, and the conventions of counting.

A multiply-add counts as two operations. Forward and backward together cost three times the forward pass. The head is
counted for scored positions only and attention by the visible keys. An ideal implementation computes just these, and they
make an MLM step cheaper than a CLM step. Where low-rank adapters are trained (model/
adapter.py), the backward pass leaves out the gradients of the frozen matrices; merging them into the weights is not counted.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_core.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn


def parameter_group(name: str) -> str:
    """The group of a parameter: embedding, attention, mlp, norms, or head (with the output bias)."""
    if name.startswith(("head.", "output_bias")):
        return "head"
    return "norms" if "norm" in name else next(part for part in ("embedding", "attention", "mlp") if part in name)


def parameters_by_group(model: "nn.Module") -> dict[str, int]:
    """Parameter counts by group; asserted to sum to the total."""
    groups = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0)
    for name, parameter in model.named_parameters():
        groups[parameter_group(name)] += parameter.numel()
    assert sum(groups.values()) == sum(parameter.numel() for parameter in model.parameters())
    return groups


def parameters_of_shape(config: ModelConfig) -> dict[str, int]:
    """Parameter counts by group in closed form, without building the model."""
    hidden, layers, vocabulary = config.hidden_size, config.num_layers, config.vocab_size
    return {
        "embedding": vocabulary * hidden,
        "attention": layers * 4 * hidden**2,
        "mlp": layers * 3 * hidden * config.intermediate_size,
        "norms": (2 * layers + 1) * hidden,
        "head": hidden**2 + hidden + vocabulary,
    }


def parameter_count(config: ModelConfig) -> int:
    """Total parameters in closed form."""
    return sum(parameters_of_shape(config).values())


def built_shape(model: "nn.Module") -> ModelConfig:
    """The shape of a model read from its modules; its configuration only says what was asked for.

    Windows and global layers leave no trace in the parameters and are taken from the configuration. The start-up leak test
    compares them with what the model does.
    """
    layers: Any = model.layers
    config: Any = model.config
    (vocabulary, hidden), first = model.get_parameter("embedding.weight").shape, layers[0]
    return replace(
        config,
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_layers=len(layers),
        num_heads=first.attention.num_heads,
        intermediate_size=first.mlp.output.in_features,
    )


def layer_matrices(config: ModelConfig) -> tuple[tuple[int, int], ...]:
    """Inputs and outputs of a layer's linear maps: joint projection and output of the attention, the MLP's two."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    return (hidden, 3 * hidden), (hidden, hidden), (hidden, 2 * intermediate), (intermediate, hidden)


def adapter_parameter_count(config: ModelConfig, rank: int) -> int:
    """Parameters of low-rank adapters on every linear map: rank x (inputs + outputs) each."""
    layer = sum(inputs + outputs for inputs, outputs in layer_matrices(config))
    return rank * (config.num_layers * layer + 2 * config.hidden_size)


def activation_bytes(config: ModelConfig, operand_bytes: int) -> int:
    """Bytes that one token keeps in all layers for the backward pass, run eagerly and without the attention's own mask.

    With H hidden, I intermediate and b = `operand_bytes` (2 under bf16 autocast, else 4) a layer keeps

        8 H      the inputs of both norms in fp32
        3 H b    the inputs of the matrices
        6 H b    the joint projection, and query, key and result of the attention
        4 I b    the MLP's projection, GELU and product
        H        where there is dropout
    """
    hidden = config.hidden_size
    per_layer = 8 * hidden + operand_bytes * (9 * hidden + 4 * config.intermediate_size)
    return config.num_layers * (per_layer + (hidden if config.attention_output_dropout else 0))


def attention_pairs(lengths: np.ndarray, direction: str, window: int | None, prefixes: np.ndarray | None = None) -> int:
    """Visible (query, key) pairs in documents of the given lengths, for one layer (`window` None: global).

    Under a prefix direction the first `prefixes` tokens of each document are open: among them all pairs are visible, the
    others as under a causal one.
    """
    if direction == "prefix":
        assert prefixes is not None, "a prefix direction knows how long the prefixes are"
        causal = attention_pairs(lengths, "causal", window) - attention_pairs(prefixes, "causal", window)
        return causal + attention_pairs(prefixes, "bidirectional", window)
    lengths = lengths.astype(np.int64)
    if window is None:
        reach = lengths * (lengths + 1) // 2  # pairs with j <= i
    else:
        full = np.minimum(lengths, window + 1)
        reach = full * (full + 1) // 2 + (lengths - full) * (window + 1)
    return int(reach.sum() if direction == "causal" else (2 * reach - lengths).sum())


@dataclass(frozen=True)
class FlopCounter:
    """Training FLOPs of rows, for one shape and direction. With a `rank` only low-rank adapters are trained."""

    config: ModelConfig
    direction: str
    rank: int | None = None

    @property
    def per_token(self) -> int:
        """Forward FLOPs of the matrices of all layers for one token."""
        return 2 * self.config.num_layers * sum(inputs * outputs for inputs, outputs in layer_matrices(self.config))

    @property
    def per_scored(self) -> int:
        """Forward FLOPs of head and output matrix for one scored position."""
        return 2 * self.config.hidden_size * (self.config.hidden_size + self.config.vocab_size)

    @property
    def adapter_per_token(self) -> int:
        """Forward FLOPs of the adapters of all layers for one token."""
        maps = sum(inputs + outputs for inputs, outputs in layer_matrices(self.config))
        return 2 * (self.rank or 0) * self.config.num_layers * maps

    @property
    def adapter_per_scored(self) -> int:
        """Forward FLOPs of the head's adapter for one scored position."""
        return 2 * (self.rank or 0) * 2 * self.config.hidden_size

    def forward(self, lengths: np.ndarray, scored: int, prefixes: np.ndarray | None = None) -> int:
        """Forward FLOPs for documents of the given lengths (and prefixes) with `scored` predictions in all."""
        tokens = int(lengths.sum())
        matrices = (self.per_token + self.adapter_per_token) * tokens
        return matrices + self._attention(lengths, prefixes) + (self.per_scored + self.adapter_per_scored) * scored

    def reading(self, lengths: np.ndarray, reads: np.ndarray) -> int:
        """Forward FLOPs for documents of which `reads` positions each are read: the last layer computes these alone.

        It still computes the keys and values of all, and each read position is counted with all keys of its document.
        """
        config, hidden = self.config, self.config.hidden_size
        spared = 2 * (2 * hidden**2 + 3 * hidden * config.intermediate_size)  # by a token that is not read
        last = attention_pairs(lengths, self.direction, None)  # the last layer is global
        pairs = int((reads * lengths).sum()) - last
        return self.forward(lengths, int(reads.sum())) - spared * int((lengths - reads).sum()) + 4 * hidden * pairs

    def _attention(self, lengths: np.ndarray, prefixes: np.ndarray | None) -> int:
        """Forward FLOPs of scores and weighted values."""
        config, pairs = self.config, 0
        for layer in range(config.num_layers):
            window = None if config.is_global(layer) else config.local_window
            pairs += attention_pairs(lengths, self.direction, window, prefixes)
        return 4 * config.hidden_size * pairs

    def training(self, lengths: np.ndarray, scored: int, prefixes: np.ndarray | None = None) -> int:
        """Forward and backward FLOPs: three times the forward pass.

        A frozen matrix counts two times, because its gradient is not computed. Below the first adapters nothing is trained,
        so the gradient of their input is not computed either.
        """
        whole = 3 * self.forward(lengths, 0, prefixes) + self.scoring(scored)
        if self.rank is None:
            return whole
        inputs, outputs = layer_matrices(self.config)[0]
        return whole - (self.per_token + 2 * inputs * (outputs + self.rank)) * int(lengths.sum())

    def scoring(self, scored: int) -> int:
        """The part of `training` that belongs to the scored positions."""
        matrices = 3 if self.rank is None else 2
        return (matrices * self.per_scored + 3 * self.adapter_per_scored) * scored
