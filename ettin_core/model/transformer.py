"""The one transformer: every direction, every objective, every size.

ModernBERT's shape (Warner et al. 2024) as Ettin trains it: normed embeddings, pre-norm layers whose first attention norm is
the identity, GeGLU, half-split rotary positions that restart in each document, a local window with a global layer every
third, and a tied prediction head of dense, GELU, norm and an output bias. No other biases.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ettin_core.foundation.randomness import derive, truncated_normal
from ettin_core.model.attention_backends import AttentionFn, branches, make_attention, make_attention_at
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.logit_probe import LogitProbe

Angles = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, (B, 1, S, D/2) each

INITIAL_STD = 0.02


def rotary_angles(position_ids: torch.Tensor, head_size: int, base: float) -> Angles:
    """Cosine and sine (B, 1, S, D/2) in fp32 of the angles position * base^(-2k/D) (Su et al. 2021)."""
    exponent = torch.arange(0, head_size, 2, device=position_ids.device, dtype=torch.float32) / head_size
    angles = position_ids[:, None, :, None].float() * base**-exponent
    return angles.cos(), angles.sin()


def rotate(tensor: torch.Tensor, angles: Angles) -> torch.Tensor:
    """Rotate (B, A, S, D) by the angles, pairing dimension k with k + D/2; computed in fp32."""
    cosine, sine = angles
    left, right = tensor.float().chunk(2, dim=-1)
    return torch.cat((left * cosine - right * sine, right * cosine + left * sine), dim=-1).to(tensor.dtype)


def pick(states: torch.Tensor, scored_positions: torch.Tensor) -> torch.Tensor:
    """States (B, S, H) at `scored_positions` (B, R) of each row, as (B, R, H)."""
    return states.gather(1, scored_positions[..., None].expand(-1, -1, states.shape[-1]))


class Attention(nn.Module):
    """Multi-head self-attention; the function `attend` decides which keys are visible."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_output_dropout
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, states: torch.Tensor, angles: Angles, attend: AttentionFn, scored_positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, S, H) -> (B, S, H), or (B, R, H) at `scored_positions` (B, R); `attend` is then made for these queries."""
        if scored_positions is None:
            projected = self.query_key_value(states).unflatten(-1, (3, self.num_heads, -1))
            query, key, value = projected.permute(2, 0, 3, 1, 4)
            query = rotate(query, angles)
        else:
            for_query, for_others = self.query_key_value.weight.tensor_split((states.shape[-1],))
            query = (
                F.linear(pick(states, scored_positions), for_query).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            )
            query = rotate(
                query,
                (pick(angles[0][:, 0], scored_positions)[:, None], pick(angles[1][:, 0], scored_positions)[:, None]),
            )
            projected = F.linear(states, for_others).unflatten(-1, (2, self.num_heads, -1))
            key, value = projected.permute(2, 0, 3, 1, 4)
        attended = attend(query, rotate(key, angles), value)
        return F.dropout(self.output(attended.transpose(1, 2).flatten(2)), self.dropout, self.training)


class GatedMLP(nn.Module):
    """GeGLU (Shazeer 2020): the first half of the projection passes the exact GELU, the second is its gate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(B, S, H) -> (B, S, H)."""
        activated, gate = self.input(states).chunk(2, dim=-1)
        return self.output(F.gelu(activated) * gate)


class Layer(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        first = index == 0  # its input is the normed embedding already
        self.attention_norm = nn.Identity() if first else _norm(config)
        self.attention = Attention(config)
        self.mlp_norm = _norm(config)
        self.mlp = GatedMLP(config)

    def forward(
        self, states: torch.Tensor, angles: Angles, attend: AttentionFn, scored_positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, S, H) -> (B, S, H), or (B, R, H): at `scored_positions` (B, R) of each row."""
        attended = self.attention(self.attention_norm(states), angles, attend, scored_positions)
        states = (states if scored_positions is None else pick(states, scored_positions)) + attended
        return states + self.mlp(self.mlp_norm(states))


class PredictionHead(nn.Module):
    """Dense, GELU, norm: the layers before the tied output matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.norm = _norm(config)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(…, H) -> (…, H)."""
        return self.norm(F.gelu(self.dense(states)))


class Transformer(nn.Module):
    """Tokens in packed rows -> hidden states; `logits` turns the ones that are scored into predictions."""

    def __init__(self, config: ModelConfig, seed: int = 0, attention: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.attention_backend = attention
        self.recompute = False  # keep only each layer's input for the backward pass (Chen et al. 2016)
        self.probe: LogitProbe | None = None  # reads the queries and keys of every layer
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embedding_norm = _norm(config)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.final_norm = _norm(config)
        self.head = PredictionHead(config)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialise(self, seed)

    def forward(
        self,
        tokens: torch.Tensor,
        document_ids: torch.Tensor,
        position_ids: torch.Tensor,
        view: AttentionSpec,
        prefix_mask: torch.Tensor | None = None,
        scored_positions: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Final hidden states (B, S, H), or (B, R, H): those at `scored_positions` (B, R) of each row.

        `tokens`, `document_ids` and `position_ids` are (B, S) integers: token ids, the number of the document each token
        belongs to within its row (-1: padding), and its position within that document (or piece of one). `prefix_mask` (B, S)
        bool belongs to a prefix direction. With `scored_positions` (inference only) the last layer computes only these.
        `branch_ids` (B, S) lays out a causal document that goes on in several ways (attention_backends/branches.py).
        """
        assert scored_positions is None or not self.training
        config = self.config
        directions = view.directions(config.num_layers)
        assert branch_ids is None or set(directions) == {"causal"}
        kinds = self._kinds(document_ids, position_ids, view, prefix_mask, branch_ids)
        states = self.embedding_norm(self.embedding(tokens))
        for index, layer in enumerate(self.layers):
            kind = config.is_global(index), directions[index]
            if scored_positions is not None and index == config.num_layers - 1:
                # The last layer is always global.
                if branch_ids is None:
                    attend = make_attention_at(scored_positions, document_ids, directions[index], prefix_mask)
                else:
                    attend = branches.make_attention(branch_ids, position_ids, None, scored_positions)
                states = layer(states, kinds[kind][0], attend, scored_positions)
            elif self.recompute and torch.is_grad_enabled():
                states = checkpoint(layer, states, *kinds[kind], use_reentrant=False)
            else:
                states = layer(states, *kinds[kind])
        return self.final_norm(states)

    def _kinds(
        self,
        document_ids: torch.Tensor,
        position_ids: torch.Tensor,
        view: AttentionSpec,
        prefix_mask: torch.Tensor | None,
        branch_ids: torch.Tensor | None,
    ) -> dict[tuple[bool, str], tuple[Angles, AttentionFn]]:
        """Angles and attention function by (global or local, direction): layers that look alike share their masks."""
        config = self.config
        angles = {
            base: rotary_angles(position_ids, config.head_size, base)
            for base in {view.rope_base_global, view.rope_base_local}
        }
        kinds = {}
        directions = view.directions(config.num_layers)
        for is_global, direction in {(config.is_global(index), name) for index, name in enumerate(directions)}:
            window = None if is_global else config.local_window
            base = view.rope_base_global if is_global else view.rope_base_local
            if branch_ids is None:
                attend = make_attention(self.attention_backend, document_ids, direction, window, prefix_mask)
            else:
                attend = branches.make_attention(branch_ids, position_ids, window)
            if self.probe is not None:
                attend = self.probe.wrap(attend, document_ids, direction, window, prefix_mask)
            kinds[is_global, direction] = angles[base], attend
        return kinds

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Predictions (N, V) for the hidden states (N, H) of the scored positions only."""
        return F.linear(self.head(states), self.embedding.weight, self.output_bias)


def _norm(config: ModelConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon, bias=False)


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Initialise every parameter from (seed, its name), in fp32: the same start on any processor, device or sharding.

    Megatron scheme of the published code: truncated normals cut at two standard deviations, 0.02, and 0.02 / sqrt(2 L)
    for the two matrices that write to the residual stream; norms one, output bias zero.
    """
    residual = INITIAL_STD / (2 * model.config.num_layers) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.is_meta:  # a model of shapes only
            continue
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name == "output_bias" else 1.0)
            continue
        std = residual if name.endswith(("attention.output.weight", "mlp.output.weight")) else INITIAL_STD
        values = truncated_normal(derive(seed, "initialisation", name), parameter.numel(), std)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))
