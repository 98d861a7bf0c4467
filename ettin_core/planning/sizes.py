"""The table of sizes as configured: shapes, hyper-parameters, and overrides of the recipe for members of a size."""

from dataclasses import dataclass, replace

from ettin_core.foundation.errors import unknown
from ettin_core.foundation.fields import check_name
from ettin_core.foundation.strict_config import build, plain
from ettin_core.model.config import ModelConfig
from ettin_core.training.phases import PhaseRecipe, RecipeConfig

VOCABULARY_MULTIPLE = 64


@dataclass(frozen=True)
class SizeOverride:
    """Values that replace the recipe's in a phase, for some members of some sizes."""

    sizes: tuple[str, ...]
    members: tuple[str, ...]
    phase: str
    values: dict[str, float]


@dataclass(frozen=True)
class SizeConfig:
    """A row of the table of sizes: shape and the hyper-parameters that go with it. `vocab_size` None: the tokenizer's.

    `local_window`, `global_every` and `norm_epsilon` are the model's (model/config.py). `tokens` is the budget of the size
    in the published recipe.
    """

    name: str
    vocab_size: int | None
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    learning_rate: float
    weight_decay: float
    warmup_share: float
    batch_warmup_share: float
    tokens: int
    attention_output_dropout: float
    local_window: int = ModelConfig.local_window
    global_every: int = ModelConfig.global_every
    norm_epsilon: float = ModelConfig.norm_epsilon
    departures: tuple[SizeOverride, ...] = ()

    def __post_init__(self) -> None:
        check_name("size.name", self.name)
        self.model(VOCABULARY_MULTIPLE)  # raises for an impossible shape, before a corpus is prepared

    def model(self, tokenizer_size: int) -> ModelConfig:
        """The model's shape for a tokenizer."""
        rounded = -(-tokenizer_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        return ModelConfig(
            self.vocab_size or rounded,
            self.hidden_size,
            self.num_layers,
            self.num_heads,
            self.intermediate_size,
            self.local_window,
            self.global_every,
            self.norm_epsilon,
            attention_output_dropout=self.attention_output_dropout,
        )

    def recipe(self, recipe: RecipeConfig, member: str) -> RecipeConfig:
        """The recipe of a member of this size, overrides included. Raises ValueError if one names an unknown phase."""
        phases = dict(recipe.phases)
        for override in self.departures:
            if self.name in override.sizes and member in override.members:
                name = override.phase
                if name not in phases:
                    raise unknown("size.departures.phase", name, "is not a phase", phases)
                phases[name] = build(PhaseRecipe, plain(phases[name]) | override.values, f"recipe.phases.{name}")
        return replace(recipe, phases=phases)
