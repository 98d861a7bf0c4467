"""A corpus, one batch through three objectives, and one update: the data path of training without the loop."""

import torch

import ettin_core as ettin
from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.loader import Loader
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.assign import component_targets
from ettin_core.objectives.config import Component
from ettin_core.objectives.targets import Masking, Vocabulary
from ettin_core.optim.build import build_update
from ettin_core.optim.config import OptimizerConfig
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import StepSettings, TrainState, optimizer_step

corpus = ettin.prepare("data.documents=1500", "data.vocab_size=1024", data="world")
batch = Loader(corpus, 128, BatchSchedule(8), seed=21, phase="pretrain").batch(0)
print(f"a batch: tokens {batch.tokens.shape}, {int(batch.real.sum())} of them real")

vocabulary = Vocabulary.of(corpus.tokenizer)
members = [Component("mlm", "bidirectional"), Component("clm", "causal"), Component("mntp", "bidirectional")]
for member in members:
    targets = component_targets(member, batch, vocabulary, Masking(rate=0.3), key=1)
    model = Transformer(ModelConfig(1024, 64, 4, 2, 96), seed=21)  # the same weights for each
    update = build_update(OptimizerConfig("stable_adamw", 1e-3, 1e-5), model)
    state = TrainState(LossModule(model), update, ProcessGroup(), torch.device("cpu"))
    result = optimizer_step(state, [MicroBatch(batch, targets)], StepSettings(AttentionSpec, 1e-3))
    loss = result.loss_sum / result.loss_tokens
    print(
        f"{member.objective:>5}: {result.loss_tokens} tokens scored, loss {loss:.3f} nats, norm {result.gradient_norm:.2f}"
    )
