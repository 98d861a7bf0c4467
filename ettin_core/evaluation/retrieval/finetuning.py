"""One trial of fine-tuning by Sentence Transformers' own trainer, the same for every member.

For dense embeddings this is the published protocol (Ettin, retrieval_eval/train_st.py): batches hold no text twice; AdamW,
warm-up, then linear to zero. Other kinds differ in rows and loss alone.
"""

import tempfile
from collections.abc import Callable
from typing import Any

from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.evaluation.retrieval.config import ContrastiveConfig, Setting
from ettin_core.evaluation.retrieval.kinds.base import RetrievalKind


def fine_tune(
    model: Any,
    kind: RetrievalKind,
    columns: dict[str, list[Any]],
    config: ContrastiveConfig,
    setting: Setting,
    seed: int,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> list[dict[str, float]]:
    """Train `model` in place; returns step, loss (of contrastive kinds in nats per query) and learning rate, step by step.

    Of a trial that diverges, some losses are no numbers.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    with tempfile.TemporaryDirectory() as scratch:
        classes = kind.classes()
        arguments = classes.arguments(
            output_dir=scratch,
            batch_sampler=kind.batch_sampler,
            use_cpu=model.device.type == "cpu",
            **_optimisation(config, setting, seed),
        )
        trainer = classes.trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(columns),
            loss=kind.loss(model, config, min(config.mini_batch, setting.batch)),
            callbacks=[_progress_callback(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        with quiet():
            trainer.train()
    return [
        {"step": row["step"], "loss": row["loss"], "learning_rate": row["learning_rate"]}
        for row in trainer.state.log_history
        if "loss" in row
    ]


def _optimisation(config: ContrastiveConfig, setting: Setting, seed: int) -> dict[str, Any]:
    """The trainer's arguments that are the same for every kind of model."""
    return {
        "num_train_epochs": setting.epochs,
        "per_device_train_batch_size": setting.batch,
        "learning_rate": setting.learning_rate,
        "weight_decay": config.weight_decay,
        "warmup_steps": config.warmup_share,  # below 1: a share of the steps
        "lr_scheduler_type": "linear",
        "bf16": config.precision == "bf16",
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def _progress_callback(progress: Callable[[int, int], None]) -> Any:
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            progress(state.global_step, state.max_steps)

    return ProgressCallback()
