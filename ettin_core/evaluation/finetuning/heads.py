"""The model that is fine-tuned: the one transformer, its own prediction head, and a new linear map to the task's outputs.

This is `ModernBertForSequenceClassification` and `ModernBertForTokenClassification`: they, too, put the pre-trained dense, GELU
and norm before the classifier. (`ModernBertDecoderForSequenceClassification` begins with a new dense layer instead; here both
members keep theirs, or they would differ in more than in what they have learnt.)
"""

import torch
from torch import nn

from ettin_core.evaluation.finetuning.encoding import Rows
from ettin_core.evaluation.finetuning.tasks import FinetuningTask
from ettin_core.foundation.randomness import derive, truncated_normal
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Transformer


class FineTuned(nn.Module):
    """A transformer under a view, and a head whose start depends on (task, seed) and the width only."""

    def __init__(
        self,
        transformer: Transformer,
        view: AttentionSpec,
        pooling: str,
        task: FinetuningTask,
        seed: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.view = view
        self.pooling = pooling
        self.kind = task.kind
        self.dropout = nn.Dropout(dropout)
        for layer in transformer.layers:  # whatever it was trained with: the same for every member
            layer.attention.dropout = dropout  # type: ignore[union-attr]
        self.classifier = nn.Linear(transformer.config.hidden_size, task.outputs)
        initialise(self.classifier, task.name, seed)

    def forward(self, rows: Rows) -> torch.Tensor:
        """Outputs (N, outputs): N rows, or for tags all words that are read, row after row."""
        states = self.transformer(rows.tokens, rows.documents, rows.positions, self.view)
        picked = (
            states.flatten(0, 1)[rows.reads] if self.kind == "tagging" else pool(states, rows.lengths, self.pooling)
        )
        return self.classifier(self.dropout(self.transformer.head(picked)))


def pool(states: torch.Tensor, lengths: torch.Tensor, pooling: str) -> torch.Tensor:
    """(B, S, H) and the tokens of each row (B,) -> (B, H): the first state, the last, or the mean of all but padding."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1]
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    return (states * real[..., None]).sum(1) / lengths[:, None]


@torch.no_grad()
def initialise(classifier: nn.Linear, task: str, seed: int) -> None:
    """ModernBERT's own start of a classifier: a truncated normal of width^-0.5, and no bias; the same on any processor."""
    values = truncated_normal(
        derive(seed, "finetune.head", task), classifier.weight.numel(), classifier.in_features**-0.5
    )
    classifier.weight.copy_(torch.from_numpy(values).view(classifier.weight.shape))
    classifier.bias.zero_()
