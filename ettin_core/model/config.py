"""The shape of the transformer, and how it looks at a row of tokens."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_within

MOST = {
    "vocab_size": 10_000_000,
    "hidden_size": 1_000_000,
    "num_layers": 10_000,
    "local_window": 2**30,
    "global_every": 10_000,
}  # beyond any model: a typing error
BACKENDS = ("auto", "reference", "sdpa", "tiles", "flex")  # of attention (model/attention_backends)
DIRECTIONS = ("bidirectional", "causal", "prefix")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the ModernBERT transformer (Warner et al. 2024; Weller et al. 2025, table of sizes).

    `local_window` is the number of visible neighbours on each side in a local layer; layer l is global iff
    l mod `global_every` = 0. `attention_output_dropout` acts on the attention block's output during training only.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    local_window: int = 64
    global_every: int = 3
    norm_epsilon: float = 1e-5
    attention_output_dropout: float = 0.0

    def __post_init__(self) -> None:
        counts = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
        for field in (*counts, "local_window", "global_every"):
            if getattr(self, field) < 1:
                raise invalid(f"model.{field}", getattr(self, field), "is not positive", "give a positive integer")
        for field, most in MOST.items():
            check_within(f"model.{field}", getattr(self, field), 1, most)
        if self.hidden_size % self.num_heads or self.head_size % 2:
            near = max(1, self.hidden_size // 64)
            raise invalid(
                "model.num_heads",
                self.num_heads,
                f"does not split hidden_size={self.hidden_size} into heads of even width",
                f"use {near} heads of 64",
            )
        if (self.num_layers - 1) % self.global_every:
            layers = 1 + self.global_every * max(1, round((self.num_layers - 1) / self.global_every))
            raise invalid(
                "model.num_layers",
                self.num_layers,
                f"leaves the last layer local (layer l is global iff l mod {self.global_every} = 0)",
                f"use {layers} layers, or change global_every",
            )
        if not 0 < self.norm_epsilon < 1:
            raise invalid("model.norm_epsilon", self.norm_epsilon, "is not between 0 and 1", "use 1e-5")
        if not 0 <= self.attention_output_dropout < 1:
            raise invalid(
                "model.attention_output_dropout", self.attention_output_dropout, "is not in [0, 1)", "use 0.0 or 0.1"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    def is_global(self, layer: int) -> bool:
        """Whether a layer sees the whole document rather than its window."""
        return layer % self.global_every == 0


@dataclass(frozen=True)
class AttentionSpec:
    """How the model looks at a row: which keys a query may see, and the base of the rotary angles by layer kind.

    `layers` gives a direction for each layer, from the first to the last, so that a mask can be removed layer by layer. None:
    `direction` holds for all layers.
    """

    direction: str
    rope_base_global: float = 10_000.0
    rope_base_local: float = 10_000.0
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for direction in (self.direction, *(self.layers or ())):
            if direction not in DIRECTIONS:
                raise unknown("direction", direction, "is not a direction", DIRECTIONS)
        for field in ("rope_base_global", "rope_base_local"):
            if getattr(self, field) <= 1:
                raise invalid(field, getattr(self, field), "is too small for a rotary base", "use 10000 or 160000")

    def directions(self, num_layers: int) -> tuple[str, ...]:
        """The direction of each layer. Raises ValueError if `layers` has another length."""
        layers = self.layers or (self.direction,) * num_layers
        if len(layers) != num_layers:
            raise invalid("layers", list(layers), f"are not {num_layers}", "give each layer of the model a direction")
        return layers


@dataclass(frozen=True)
class AdapterConfig:
    """Rank of the added matrices, and alpha: what B A is multiplied by is alpha / rank."""

    rank: int
    alpha: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise invalid("adapter.rank", self.rank, "is not positive", "use 16")
        if self.alpha < 1:
            raise invalid("adapter.alpha", self.alpha, "is not positive", "use twice the rank")
