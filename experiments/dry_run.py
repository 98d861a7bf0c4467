"""What a run will be, told without training: parameters, FLOPs, tokens, schedule, data."""

import numpy as np
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.accounting import FlopCounter, parameters_by_group
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import MASKED
from ettin_core.training.run import PlacementConfig, RunConfig
from ettin_core.training.session import check_fit

NON_SPECIAL = 0.98  # a rough share for the estimate of loss-bearing tokens; the run itself counts them


def describe(run: RunConfig, corpus: Corpus) -> str:
    """The plan of a run as text. Raises ValueError for what would be refused at the start of training."""
    check_fit(run, corpus, PlacementConfig(), ProcessGroup())
    with torch.device("meta"):
        groups = parameters_by_group(Transformer(run.model))
    counter = FlopCounter(run.model, run.direction)
    lines = [
        f"run         {run.name}",
        f"member      {run.member}: {run.direction}, {run.objective.name}, {run.precision}",
        f"parameters  {sum(groups.values()):,}  ({', '.join(f'{name} {count:,}' for name, count in groups.items())})",
        f"corpus      {corpus.name}  fingerprint {corpus.fingerprint[:16]}…",
        f"optimiser   {run.optimizer.name}, peak {run.optimizer.learning_rate:g}, decay {run.optimizer.weight_decay:g}",
    ]
    total_flops = 0.0
    for phase in run.phases:
        share = phase.mask_rate * NON_SPECIAL if run.objective.name in MASKED else NON_SPECIAL
        tokens = phase.steps * phase.step_tokens
        scored = round(phase.step_tokens * share)
        flops = phase.steps * counter.training(np.full(phase.batch_rows, phase.context), scored)
        total_flops += flops
        loader = Loader(corpus, phase.context, phase.batch_rows, run.seeds.order, phase.name, phase.mixture)
        passes = max(loader.order.epochs(phase.steps * phase.batch_rows))
        knots = ", ".join(f"{point:,}: {factor * phase.learning_rate:.3g}" for point, factor in phase.schedule.knots())
        lines += [
            f"{phase.name:<12}{phase.steps:,} steps of {phase.batch_rows} x {phase.context} = {tokens:,} tokens, about "
            f"{scored * phase.steps:,} of them loss-bearing, {flops:.3g} FLOPs, at most {passes:.2f} epochs",
            f"            rate by tokens {{{knots}}}, rope {phase.rope_base_global:g}/{phase.rope_base_local:g}"
            + (f", mask rate {phase.mask_rate:g}" if run.objective.name in MASKED else ""),
        ]
    return "\n".join([*lines, f"total       {run.tokens:,} tokens, {total_flops:.3g} FLOPs"])
