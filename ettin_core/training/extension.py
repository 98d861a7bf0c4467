"""A longer run that begins as a shorter one did: which steps two runs share, and how the longer starts after them.

The longer run is a run like any other: its configuration names it, and trained from the beginning it is the same run, bit
for bit. Rows, masks and dropout depend only on the seeds and on the row's or step's number within its phase. So the order of
the data continues and no row is repeated.
"""

from dataclasses import replace
from typing import Any

from ettin_core.checkpoints import native
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import locked
from ettin_core.foundation.storage import append_json_lines, write_json, write_text
from ettin_core.foundation.strict_config import build, plain
from ettin_core.objectives.assign import component_at
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import to_row
from ettin_core.training.config import RunConfig
from ettin_core.training.phases import Phase, PhaseRecipe, plan
from ettin_core.training.progress import Progress


def longer(run: RunConfig, tokens: int) -> RunConfig:
    """The run with more tokens: phases keep their shares of the whole, and warm-ups their length in tokens."""
    stretch = tokens / run.recipe.tokens
    phases = {
        name: replace(phase, batch_warmup_share=phase.batch_warmup_share / stretch)
        for name, phase in run.recipe.phases.items()
    }
    grown = plan(replace(run.recipe, tokens=tokens, phases=phases), run.optimizer.learning_rate)
    warmups = zip(run.phases, grown, strict=True)
    phases = {
        new.name: replace(phases[new.name], warmup_share=old.schedule.warmup / new.tokens) for old, new in warmups
    }
    return replace(run, recipe=replace(run.recipe, tokens=tokens, phases=phases))


def with_phase(run: RunConfig, tokens: int, name: str, changes: dict[str, Any]) -> RunConfig:
    """The run with another phase, up to `tokens` in all; the phase is like the last, except for its `changes`."""
    if name in run.recipe.phases:
        raise invalid("further.name", name, f"is a phase of {run.name}", "give the phase another name")
    if "share" in changes:
        raise invalid("further.share", changes["share"], "is what is left of tokens", "leave it out, and give tokens")
    recipes = {phase.name: replace(run.recipe.phases[phase.name], share=phase.tokens / tokens) for phase in run.phases}
    last = plain(run.recipe.phases[run.phases[-1].name])
    rest = 1 - sum(recipe.share for recipe in recipes.values())
    recipes[name] = build(PhaseRecipe, last | {"prefix": name} | changes | {"share": rest})
    return replace(run, recipe=replace(run.recipe, tokens=tokens, phases=recipes))


def shared_checkpoint(folder: RunFolder, run: RunConfig, longer_run: RunConfig) -> native.Checkpoint:
    """The last checkpoint of `run` up to which `longer_run` does the same in every step.

    Raises ValueError if they share no step.
    """
    places = {phase.prefix: number for number, phase in enumerate(run.phases)}
    for path in reversed(native.ordered(folder.checkpoints)):
        prefix = path.name.rstrip("0123456789")
        steps = int(path.name.removeprefix(prefix))
        if (places[prefix] or steps) and same_past(run, longer_run, places[prefix], steps):
            return native.load(path, folder.name)
    problem = "has no checkpoint up to which the longer run is the same: its learning rate decays from the first"
    remedy = "add a phase after it with further=, or train with checkpoint.keep_every_tokens and a plateau"
    raise invalid("run", folder.name, problem, remedy)


def same_past(run: RunConfig, longer_run: RunConfig, number: int, steps: int) -> bool:
    """Whether two runs do the same in the phases before phase `number`, and in the first `steps` steps of that phase."""
    if replace(longer_run, recipe=run.recipe, checkpoint=run.checkpoint) != run or longer_run.top_rate != run.top_rate:
        return False
    if longer_run.recipe.on_nonfinite != run.recipe.on_nonfinite or len(longer_run.phases) <= number:
        return False
    pasts = [(phase, phase.steps) for phase in run.phases[:number]] + [(run.phases[number], steps)]
    for (phase, count), twin in zip(pasts, longer_run.phases, strict=False):
        whole = phase is not run.phases[number]
        if _fixed(phase) != _fixed(twin) or count > twin.steps or (whole and count != twin.steps):
            return False
        if any(_at(run, phase, step) != _at(longer_run, twin, step) for step in range(count)):
            return False
    return True


def _fixed(phase: Phase) -> tuple[Any, ...]:
    """The properties of a phase that are the same in all its steps."""
    bases = phase.rope_base_global, phase.rope_base_local
    return phase.name, phase.prefix, phase.context, *bases, phase.mixture, phase.packing


def _at(run: RunConfig, phase: Phase, step: int) -> tuple[Any, ...]:
    """The properties of a phase at a step: rows so far, rates, and the number of the objective's component."""
    components = run.objective.under(run.direction)
    component = component_at(run.objective, components, run.position(phase, step)) if run.objective.parts else 0
    return phase.batches.before(step + 1), phase.rate(step), phase.mask_rate_at(step), component


def begin(folder: RunFolder, run: RunConfig, parent: RunFolder, checkpoint: native.Checkpoint) -> None:
    """Copy to a run what it shares with its parent (rows, checkpoints, state), unless it is as far already.

    Checkpoints that are kept permanently are copied too. The shared one is written last: after a kill the copy restarts.
    """
    with locked(folder.path):
        progress = build(Progress, checkpoint.state)
        existing = native.ordered(folder.checkpoints)
        if existing and native.check(existing[-1])["global_step"] >= progress.global_step:
            return
        rows = parent.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(folder.metrics_file, "".join(rows[: progress.metric_rows]))
        write_text(folder.timing_file, "")
        timing = [to_row(row) for row in parent.timing() if row.step <= progress.global_step]
        append_json_lines(folder.timing_file, timing)
        origin = {"run": parent.name, "checkpoint": checkpoint.name, "weights": native.hash_tensors(checkpoint.model)}
        write_json(folder.beginning_file, origin)
        for path in native.ordered(parent.checkpoints):
            if path.name == checkpoint.name:
                break
            if run.is_kept(path.name):
                _copy(native.load(path, parent.name), folder, run)
        _copy(checkpoint, folder, run)


def _copy(checkpoint: native.Checkpoint, folder: RunFolder, run: RunConfig) -> None:
    native.save(folder.checkpoints, checkpoint.name, checkpoint.model, checkpoint.optimizer, checkpoint.state, run.name)
