"""What a model costs: parameters by group and floating-point operations, with the conventions stated.

A multiply-add counts as two operations. Forward and backward together cost three times the forward pass. The head is
counted for scored positions only and attention by the keys that are visible, because those are what an ideal
implementation computes and what makes an MLM step cheaper than a CLM step.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from ettin_core.model.config import ModelConfig


def parameter_group(name: str) -> str:
    """The group of a parameter: embedding, attention, mlp, norms, or head (with the output bias)."""
    if name.startswith(("head.", "output_bias")):
        return "head"
    return "norms" if "norm" in name else next(part for part in ("embedding", "attention", "mlp") if part in name)


def parameters_by_group(model: nn.Module) -> dict[str, int]:
    """Parameter counts by group; asserted to sum to the total."""
    groups = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0)
    for name, parameter in model.named_parameters():
        groups[parameter_group(name)] += parameter.numel()
    assert sum(groups.values()) == sum(parameter.numel() for parameter in model.parameters())
    return groups


def parameter_count(config: ModelConfig) -> int:
    """Total parameters in closed form."""
    hidden, layers, vocabulary = config.hidden_size, config.num_layers, config.vocab_size
    per_layer = 4 * hidden**2 + 3 * hidden * config.intermediate_size + 2 * hidden
    return vocabulary * hidden + layers * per_layer + 2 * hidden + hidden**2 + vocabulary


def activation_bytes(config: ModelConfig, operand_bytes: int) -> int:
    """Bytes that one token keeps in all layers for the backward pass, run eagerly and without the attention's own mask.

    Per layer, with H hidden, I intermediate and b = `operand_bytes` (2 under bf16 autocast, else 4): the inputs of both
    norms in fp32 (8 H), the inputs of the matrices (3 H b), the joint projection and query, key and result of the
    attention (6 H b), the MLP's projection, GELU and product (4 I b), and a byte per H where there is dropout.
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
    """Training FLOPs of rows, for one shape and direction."""

    config: ModelConfig
    direction: str

    @property
    def per_token(self) -> int:
        """Forward FLOPs of the matrices of all layers for one token."""
        config = self.config
        return 2 * config.num_layers * (4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size)

    @property
    def per_scored(self) -> int:
        """Forward FLOPs of head and output matrix for one scored position."""
        return 2 * self.config.hidden_size * (self.config.hidden_size + self.config.vocab_size)

    def forward(self, lengths: np.ndarray, scored: int, prefixes: np.ndarray | None = None) -> int:
        """Forward FLOPs for documents of the given lengths (and prefixes) with `scored` predictions in all."""
        config = self.config
        pairs = 0
        for layer in range(config.num_layers):
            window = None if config.is_global(layer) else config.local_window
            pairs += attention_pairs(lengths, self.direction, window, prefixes)
        attention = 4 * config.hidden_size * pairs  # scores and weighted values
        return self.per_token * int(lengths.sum()) + attention + self.per_scored * scored

    def training(self, lengths: np.ndarray, scored: int, prefixes: np.ndarray | None = None) -> int:
        """Forward and backward FLOPs."""
        return 3 * self.forward(lengths, scored, prefixes)
