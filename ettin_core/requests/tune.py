"""Supervised fine-tuning and preference tuning as they are asked for."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ettin_core.evaluation.chat.model import CONVERT, TunedModel, need_packages, open_tuned
from ettin_core.evaluation.chat.rows import SplitRows, read_conversations, read_preferences
from ettin_core.evaluation.chat.trainers import LORA, TuningConfig
from ettin_core.evaluation.chat.tuning import DPO, FILLING, SFT, Tuning, TuningKind, TuningResult, tune
from ettin_core.evaluation.exports import own_export
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder, find_run_or_none, folder_of


@dataclass(frozen=True)
class TuneRequest:
    """What conf/sft.yaml and conf/dpo.yaml share."""

    model: str
    base: str | None
    checkpoint: str | None
    out: str
    template: str | None
    max_rows: int | None
    held_out_rows: int | None
    method: str
    learning_rate: float
    batch: int
    epochs: float
    max_length: int
    warmup_share: float
    rank: int
    alpha: int
    seed: int
    save_every: int
    device: str
    threads: int
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        for name, value in (("max_rows", self.max_rows), ("held_out_rows", self.held_out_rows)):
            if value is not None and value < 1:
                raise invalid(name, value, "is not positive", "use null for all rows")
        self.config.check()

    @property
    def config(self) -> TuningConfig:
        """How the model is tuned."""
        return TuningConfig(
            method=self.method,
            learning_rate=self.learning_rate,
            batch=self.batch,
            epochs=self.epochs,
            max_length=self.max_length,
            warmup_share=self.warmup_share,
            seed=self.seed,
            rank=self.rank,
            alpha=self.alpha,
            save_every=self.save_every,
        )


@dataclass(frozen=True)
class SftRequest(TuneRequest):
    """conf/sft.yaml."""

    conversations: str
    packing: bool
    assistant_only: bool

    @property
    def config(self) -> TuningConfig:
        """How the model is tuned."""
        return replace(super().config, packing=self.packing, assistant_only=self.assistant_only)


@dataclass(frozen=True)
class DpoRequest(TuneRequest):
    """conf/dpo.yaml."""

    preferences: str
    beta: float

    @property
    def config(self) -> TuningConfig:
        """How the model is tuned."""
        return replace(super().config, beta=self.beta)


@dataclass(frozen=True)
class _Origin:
    """The model that is asked for and the run folder that its records go to."""

    model: TunedModel
    home: RunFolder | None
    earlier: str | None


def sft(request: SftRequest) -> TuningResult:
    """Fine-tune on conversations; repeated, the result is read."""
    need_packages()
    return _tune(SFT, request, read_conversations(request.conversations))


def dpo(request: DpoRequest) -> TuningResult:
    """Tune on preferences; repeated, the result is read."""
    need_packages()
    return _tune(DPO, request, read_preferences(request.preferences))


def _tune(kind: TuningKind, request: TuneRequest, data: SplitRows) -> TuningResult:
    torch.set_num_threads(request.threads)
    rows = replace(data, train=data.train[: request.max_rows], held_out=data.held_out[: request.held_out_rows])
    origin = _open(request, encoders=kind is SFT)
    if origin.model.fills:
        _check_filling(request.config)
        kind = FILLING
    if (
        request.method == LORA and origin.model.adapter is not None
    ):  # its folder names one base, not a base and an adapter
        remedy = "give the folder beside it, in which the adapter is merged"
        raise invalid("method", LORA, "would be an adapter on top of an adapter", remedy)
    longest = origin.model.checkpoint.longest
    if longest is not None and request.max_length > longest:
        problem = f"is beyond the {longest} tokens of {origin.model.checkpoint.run}"
        raise invalid("max_length", request.max_length, problem, f"use {longest} or less")
    device = str(choose_device(request.device, ProcessGroup()))
    out = Path(request.out).resolve()
    config, template = request.config, request.template
    tuning = Tuning(kind, origin.model, rows, config, template, out, device, origin.home, origin.earlier)
    return tune(tuning, lambda line: print(line, file=sys.stderr))


def _check_filling(config: TuningConfig) -> None:
    """Raises ValueError for what an encoder cannot do with conversations."""
    if config.packing:
        problem = "would let the conversations of a row see each other in an encoder"
        raise invalid("packing", config.packing, problem, "use packing=false")
    if not config.assistant_only:
        problem = "is for decoders: an encoder fills the answers alone"
        raise invalid("assistant_only", config.assistant_only, problem, "use assistant_only=true")


def _open(request: TuneRequest, encoders: bool) -> _Origin:
    """A run is exported once; folders and hub ids are taken as they are, and their run is looked for in `runs_dir`."""
    source, home = request.model, None
    if find_run_or_none(request.model) is not None:
        home, run = open_run(request.model)
        if run.readout[0] not in ("causal", *(["bidirectional"] if encoders else [])):
            raise invalid("model", request.model, f"is {run.readout[0]}, not a decoder", CONVERT)
        source = str(own_export(run, home, open_corpus(run, Path(request.corpora_dir)), request.checkpoint))
    elif request.checkpoint is not None:
        raise invalid("checkpoint", request.checkpoint, "belongs to a run", "leave it out, or give a run")
    model = open_tuned(source, request.base, encoders)
    if home is None:
        named = folder_of(model.checkpoint.run, Path(request.runs_dir))
        home = named if named.config_file.is_file() else None
    checkpoint = model.checkpoint.checkpoint
    last = home is None or (home.complete and home.summary()["final_checkpoint"] == checkpoint)
    return _Origin(model, home, None if last else checkpoint)
