"""TRL's trainers for a decoder: full weights or LoRA, continued from their last checkpoint.

TRL 1.16 computes log-probabilities from the backbone's states and the output matrix alone. A ModernBERT decoder has a dense
layer, GELU and a norm between the two, which would be left out: the loss would be that of another model. `with_whole_head` puts
them back, and the loss is compared with the model's before training starts.
"""

import copy
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ettin_core.evaluation.chat.rows import Conversation, Preference
from ettin_core.foundation.errors import UserError, invalid

LORA, FULL = "lora", "full"
AGREEMENT = 1e-3  # relative, of two losses in fp32
STATE_FILE = "trainer_state.json"  # the last that a checkpoint is given


class Diverged(UserError):
    """A tuning whose loss or weights are infinite or NaN; it cannot be continued."""


@dataclass(frozen=True)
class TuningConfig:
    """How a model is tuned. `packing` and `assistant_only` are those of SFT, `beta` that of DPO; None in the other."""

    method: str
    learning_rate: float
    batch: int
    epochs: float
    max_length: int
    warmup_share: float
    seed: int
    rank: int
    alpha: int
    save_every: int
    packing: bool | None = None
    assistant_only: bool | None = None
    beta: float | None = None

    def check(self) -> None:
        """Raises ValueError for a value that no tuning could have."""
        if self.method not in (FULL, LORA):
            raise invalid("method", self.method, "is unknown", f"use {FULL} or {LORA}")
        for name in ("learning_rate", "batch", "epochs", "rank", "alpha", "save_every", "beta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise invalid(name, value, "is not positive", "use a positive number")
        if self.max_length < 8:
            raise invalid("max_length", self.max_length, "holds no conversation", "use 128 or more")
        if not 0 <= self.warmup_share < 1:
            raise invalid("warmup_share", self.warmup_share, "is not in [0, 1)", "use 0.1 or 0")


def sft_trainer(model: Any, tokenizer: Any, rows: list[Conversation], config: TuningConfig, work: Path) -> Any:
    """TRL's SFTTrainer. Packed conversations do not see each other: positions begin anew with each."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        packing=bool(config.packing),
        assistant_only_loss=bool(config.assistant_only),
        **arguments_of(model, config, work),
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"messages": row.messages} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter_of(config),
    )
    with_whole_head(trainer.model)
    return trainer


def dpo_trainer(model: Any, tokenizer: Any, rows: list[Preference], config: TuningConfig, work: Path) -> Any:
    """TRL's DPOTrainer; the reference is the model as it is now."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    reference = copy.deepcopy(model) if config.method == FULL else None
    columns = ("prompt", "chosen", "rejected")
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(beta=float(config.beta or 0), **arguments_of(model, config, work)),
        train_dataset=Dataset.from_list([{name: getattr(row, name) for name in columns} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter_of(config),
    )
    with_whole_head(trainer.model)
    if reference is not None:
        with_whole_head(trainer.ref_model)
    return trainer


def run(trainer: Any, work: Path) -> None:
    """Train to the end, from the last whole checkpoint of a tuning that was stopped; the Trainer's bar shows the loss.

    Raises Diverged where the loss or a weight is infinite or NaN; a short tuning may log no loss.
    """
    from transformers import PrinterCallback, ProgressCallback

    class LossBar(ProgressCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            if self.training_bar is not None and "loss" in logs:
                self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.3f}")

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(LossBar)
    states = list(work.glob(f"checkpoint-*/{STATE_FILE}"))
    last = max(states, key=lambda file: int(file.parent.name.rpartition("-")[2]), default=None)
    trainer.train(resume_from_checkpoint=None if last is None else str(last.parent))
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    if not all(map(math.isfinite, losses)) or not all(
        bool(part.isfinite().all()) for part in trainer.model.parameters()
    ):
        problem = "makes the loss or the weights infinite or NaN"
        raise Diverged(str(invalid("learning_rate", trainer.args.learning_rate, problem, "use a lower one")))


def with_whole_head(model: Any) -> None:
    """Let TRL's log-probabilities go through all layers of the prediction head.

    Raises ValueError for a model whose log-probabilities are not its own even then.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if type(base).__name__ == "ModernBertDecoderForCausalLM":
        fused = base.forward

        def through_head(module: Any, inputs: Any, output: Any) -> Any:
            output.last_hidden_state = base.lm_head(output.last_hidden_state)
            return output

        @functools.wraps(fused)
        def forward(*arguments: Any, fused_lm_head: bool = False, **options: Any) -> Any:
            if not fused_lm_head:
                return fused(*arguments, **options)
            handle = base.model.register_forward_hook(through_head)
            try:
                return fused(*arguments, fused_lm_head=True, **options)
            finally:
                handle.remove()

        base.forward = forward
    _check_loss(base)


@torch.no_grad()
def _check_loss(model: Any) -> None:
    was_training = model.training
    model.eval()
    ids = torch.arange(1, 9, device=model.device)[None] % model.config.vocab_size
    expected, fused = (
        float(model(input_ids=ids, labels=ids).loss),
        model(input_ids=ids, labels=ids, fused_lm_head=True).loss,
    )
    model.train(was_training)
    if not abs(float(fused) - expected) <= AGREEMENT * max(1.0, abs(expected)):
        problem = f"has a loss of {expected:.4f} and, as TRL computes it, {float(fused):.4f}"
        raise invalid("model", type(model).__name__, problem, "use a class whose output matrix follows its last layer")


def arguments_of(model: Any, config: TuningConfig, work: Path) -> dict[str, Any]:
    """What both trainers are given; precision and memory are the same for every member."""
    on_cpu = model.device.type == "cpu"
    return {
        "output_dir": str(work),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_share,  # below 1: a share of the steps
        "max_length": config.max_length,
        "seed": config.seed,
        "data_seed": config.seed,
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "logging_steps": 10,
        "logging_nan_inf_filter": False,
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "gradient_checkpointing": False,
        "report_to": "none",
    }


def adapter_of(config: TuningConfig, task: str | None = "CAUSAL_LM") -> Any:
    """LoRA on every linear map but the output matrix, which is tied, for PEFT's class of `task`; None for full tuning."""
    if config.method == FULL:
        return None
    from peft import LoraConfig

    return LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules="all-linear", task_type=task)
