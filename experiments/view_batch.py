"""python -m experiments.view_batch run=runs/<run> step=10: the exact global batch of any step of any run, decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import invalid
from ettin_core.objectives.targets import OBJECTIVES, Masking, Targets, Vocabulary, mask_key
from ettin_core.training.phases import Phase
from ettin_core.training.run import RunConfig
from experiments.door import entry
from experiments.requests import open_run


@dataclass(frozen=True)
class ViewRequest:
    """conf/view_batch.yaml."""

    run: str
    step: int
    rows: int
    corpora_dir: str


@entry("view_batch", ViewRequest)
def main(request: ViewRequest) -> None:
    """Print the batch."""
    _, run = open_run(request.run)
    corpus = Corpus(Path(request.corpora_dir) / run.corpus)
    print(describe(run, corpus, request.step, request.rows))


def describe(run: RunConfig, corpus: Corpus, step: int, rows: int) -> str:
    """The batch of a global step as text: «» marks documents, [x→y] an input x whose target is y."""
    phase, phase_step = phase_of(run, step)
    loader = Loader(corpus, phase.context, phase.batch_rows, run.seeds.order, phase.name, phase.mixture)
    batch = loader.batch(phase_step)
    masking = Masking(phase.mask_rate, run.objective.mask_share, run.objective.random_share)
    vocabulary = Vocabulary(corpus.tokenizer.vocab_size, corpus.tokenizer.special)
    targets = OBJECTIVES[run.objective.name](batch, vocabulary, masking, mask_key(run.seeds.masks, phase.name))
    lines = [
        f"{run.name}: step {step} = {phase.name} step {phase_step}, {len(batch.rows)} rows of {phase.context} tokens, "
        f"{len(targets.labels):,} loss-bearing ({run.objective.name}), digest {batch.digest():016x}"
    ]
    for number in range(min(rows, len(batch.rows))):
        source = loader.sources[batch.sources[number]]
        documents = int(batch.documents[number].max()) + 1
        lines.append(f"\nrow {batch.rows[number]} from {source}, {documents} documents (pieces)")
        lines.append(render(batch, targets, number, corpus.tokenizer))
    return "\n".join(lines)


def phase_of(run: RunConfig, step: int) -> tuple[Phase, int]:
    """The phase of a global step and the step within it. Raises ValueError beyond the run's end."""
    left = step
    for phase in run.phases:
        if 0 <= left < phase.steps:
            return phase, left
        left -= phase.steps
    total = sum(phase.steps for phase in run.phases)
    raise invalid("step", step, f"is not a step of the run, which has {total}", f"use 0 to {total - 1}")


def render(batch: Batch, targets: Targets, row: int, tokenizer: Tokenizer) -> str:
    """One row with its corruption and targets."""
    width = batch.tokens.shape[1]
    mine = targets.read // width == row
    shift = {
        int(read % width): int(label) for read, label in zip(targets.read[mine], targets.labels[mine], strict=True)
    }
    pieces = []
    for place in range(width):
        token, shown = int(batch.tokens[row, place]), int(targets.inputs[row, place])
        if batch.documents[row, place] < 0:
            break
        if place and batch.positions[row, place] == 0:
            pieces.append("»\n«")
        text = tokenizer.decode([shown], show_special=True)
        if token != shown:
            text = f"[{text}→{tokenizer.decode([token], show_special=True)}]"
        pieces.append(text)
    scored = np.array(sorted(shift), dtype=np.int64)
    return f"«{''.join(pieces)}»\nread at {len(scored)} positions, the first: {scored[:12].tolist()}"


if __name__ == "__main__":
    main()
