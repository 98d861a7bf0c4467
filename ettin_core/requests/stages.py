"""The commands of a study's stages: each composes its configuration as on the command line, and leaves a mark of what it made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ettin_core.evaluation.chat.model import need_packages as need_chat
from ettin_core.evaluation.chat.rows import read_conversations, read_preferences
from ettin_core.evaluation.chat.stage_records import record_in_runs
from ettin_core.evaluation.chat.tuning import TuningResult
from ettin_core.evaluation.exports import own_export
from ettin_core.evaluation.generated_folder import make
from ettin_core.evaluation.protocol import MeasuredModel
from ettin_core.evaluation.quantised import record_changes
from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.evaluation.suite import settings_of
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.override_text import assignment
from ettin_core.foundation.storage import read_mapping, write_json
from ettin_core.foundation.strict_config import build, plain
from ettin_core.interop.quantisation import check_method
from ettin_core.interop.quantisation_effect import Effect
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.planning.merging import source
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.planning.tuned import tuned_run
from ettin_core.records.evaluations import settings_hash
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import Measurement
from ettin_core.requests.compose import composed, configurations
from ettin_core.requests.evaluate import EvaluateRequest, evaluate_pretrained
from ettin_core.requests.finetune import FinetuneRequest, finetune
from ettin_core.requests.merge import PLACEMENT, MergeRequest
from ettin_core.requests.quantise import RECORD, QuantiseRequest, quantised
from ettin_core.requests.retrieve import RetrieveRequest, retrieve
from ettin_core.requests.tune import DpoRequest, SftRequest, dpo, sft
from ettin_core.studies.stage_jobs import Result, StageWork
from ettin_core.studies.stages import Stage
from ettin_core.studies.train_run import train_run

REQUESTS: dict[str, type] = {
    "sft": SftRequest,
    "dpo": DpoRequest,
    "merge": MergeRequest,
    "finetune": FinetuneRequest,
    "retrieve": RetrieveRequest,
    "quantise": QuantiseRequest,
}
SET_ROWS = 600  # of each generated evaluation set
UNNAMED = "unnamed"  # in the place of what a stage will be given


class Commands:
    """The commands by which a study's stages run."""

    @staticmethod
    def run(work: StageWork) -> Result:
        """Do what is missing of a stage; returns what it made."""
        with quiet():
            result = COMMANDS[work.command](work)
        write_json(work.mark, result)
        return result

    @staticmethod
    def check(stage: Stage) -> None:
        """Raises ValueError for options that the command does not have, unreadable rows or a missing extra."""
        if stage.sets is not None and not (stage.sets / "MANIFEST.json").is_file():
            make(stage.sets, SET_ROWS, stage.request.data.world_seed)
        request = _composed(stage.config.command, tuple(stage.options), _places(stage))
        if isinstance(request, QuantiseRequest):
            check_method(request.method)
        elif isinstance(request, FinetuneRequest | RetrieveRequest):
            request.check()
        elif isinstance(request, SftRequest | DpoRequest):
            need_chat()
            _check_rows(request, stage)


def _check_rows(request: SftRequest | DpoRequest, stage: Stage) -> None:
    field, member = f"stages.{stage.label}.of", stage.request.member
    encoder = DIRECTIONS[member.direction].readout != "causal"
    if isinstance(request, DpoRequest):
        if encoder:
            raise invalid(field, member.name, "is not a decoder", "convert it, and follow that")
        read_preferences(request.preferences)
        return
    if encoder and request.packing:
        remedy = "give packing=false in the stage's settings"
        raise invalid(field, member.name, "is an encoder, whose packed rows would see each other", remedy)
    read_conversations(request.conversations)


def _places(stage: Stage) -> dict[str, Any]:
    """Stand-ins for what only the complete cells of a stage give."""
    if stage.config.command == "merge":
        base = {} if stage.base is None else {"base": UNNAMED}
        return {"parents": [f"{UNNAMED}_{number}" for number in range(len(stage.sources))], **base}
    if stage.config.command == "retrieve":
        return {"models": [UNNAMED], **({} if stage.retriever is None else {"retriever": UNNAMED})}
    return {"run": UNNAMED} if stage.config.command == "finetune" else {"model": UNNAMED, "out": UNNAMED}


def _composed(command: str, options: tuple[str, ...], places: dict[str, Any]) -> Any:
    with configurations():
        return composed(
            command, REQUESTS[command], [*options, *(assignment(key, value) for key, value in places.items())]
        )


def _request(work: StageWork, **places: Any) -> Any:
    return _composed(work.command, work.options, {**places, "corpora_dir": work.corpora_dir})


def _tune(command: Callable[[Any], TuningResult], work: StageWork) -> Result:
    """Tune, and enter the tuned model as a run, with what was measured of it and of its base."""
    seed = {} if any(option.startswith("seed=") for option in work.options) else {"seed": work.seed}
    device = {"device": work.placement.device, "threads": work.placement.threads}
    base = source(str(work.sources[0]))
    corpus = open_corpus(base.run, Path(work.corpora_dir))
    model = work.model if Path(work.model) != base.folder.path else str(own_export(base.run, base.folder, corpus))
    places = {
        "model": model,
        "out": str(work.out),
        "runs_dir": str(work.out.parent),
    }  # its records go to both runs, below
    request = _request(work, **places, **device, **seed)
    tuned = command(request)
    run, weights = tuned_run(base, work.member, f"{work.command}_{request.method}", tuned.folder)
    folder = train_run(run, corpus, PLACEMENT, work.runs_dir, start=lambda: weights)
    record_in_runs(tuned.folder, base.folder, folder)
    return {"run": folder.name, "model": str(tuned.folder)}


def _sft(work: StageWork) -> Result:
    return _tune(sft, work)


def _dpo(work: StageWork) -> Result:
    return _tune(dpo, work)


def _merge(work: StageWork) -> Result:
    base = {} if work.base is None else {"base": str(work.base)}
    request = _request(work, parents=[str(path) for path in work.sources], runs_dir=work.runs_dir, **base)
    run, corpus, start = request.prepared()
    return {"run": train_run(run, corpus, PLACEMENT, work.runs_dir, start).name}


def _finetune(work: StageWork) -> Result:
    device = {"device": work.placement.device, "threads": work.placement.threads}
    rows = finetune(_request(work, run=str(work.sources[0]), **device))
    return {"measured": {_versioned(row): settings_hash(row.provenance["settings"]) for row in rows}}


def _retrieve(work: StageWork) -> Result:
    retriever = {} if work.retriever is None else {"retriever": work.retriever}
    device = {"device": work.placement.device, "threads": work.placement.threads}
    root = str(Path(work.runs_dir).parent / "retrieval")
    request = _request(work, models=[work.model], retrieval_dir=root, **device, **retriever)
    rows = [score.measurement for score in retrieve(request)]
    chosen = rows[0].provenance["chosen"]
    measured = {_versioned(row): row.provenance["settings"]["grid"] for row in rows}
    return {"measured": measured} | ({"model": f"{root}/{chosen[0]}"} if chosen else {})


def _versioned(row: Measurement) -> str:
    return f"{row.protocol}@{row.version}"


def _quantise(work: StageWork) -> Result:
    """Write the copy, measure it by the suite, and record what changed."""
    folder, run = open_run(str(work.sources[0]))
    request = _request(work, model=work.model, out=str(work.out), threads=work.placement.threads)
    if (work.out / RECORD).is_file():
        record = read_mapping(work.out / RECORD)
        moved = build(Effect, {name: value for name, value in record.items() if name != "method"})
    else:
        _, moved = quantised(replace(request, overwrite=True))
    suite, readout = work.suite, run.check_readable()
    asked = EvaluateRequest(
        run=None,
        checkpoint=None,
        model=str(work.out),
        revision=None,
        readout=None,
        corpus=run.corpus,
        out=str(work.out.parent),
        suite=suite,
        device=work.placement.device,
        threads=work.placement.threads,
        corpora_dir=work.corpora_dir,
    )
    copy = evaluate_pretrained(asked, Path(work.corpora_dir))
    known = folder.summary()
    subject = MeasuredModel(
        folder.name, run.member, run.size, run.seeds.initialisation, known["final_checkpoint"], known["final_weights"]
    )
    settings = {
        "group": request.group,
        "rounds": request.rounds,
        "suite": plain(replace(suite, protocols=None, eval_data=None)),
    }
    plain_folder = RunFolder(folder.path, settings_of(suite, readout))
    record_changes(subject, request.method, readout, plain_folder, copy, moved, settings)
    return {"model": str(work.out)}


COMMANDS: dict[str, Callable[[StageWork], Result]] = {
    "sft": _sft,
    "dpo": _dpo,
    "merge": _merge,
    "finetune": _finetune,
    "retrieve": _retrieve,
    "quantise": _quantise,
}
