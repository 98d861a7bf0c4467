"""python -m experiments.make_eval_sets out=my_sets: small sets, with which every command that reads sets runs offline."""

from dataclasses import dataclass
from pathlib import Path

from ettin_core.evaluation.generated_folder import make
from ettin_core.foundation.errors import invalid
from experiments.cli.entry import entry

LEAST = 40  # rows, so that every split and every label has some


@dataclass(frozen=True)
class EvalSetsRequest:
    """conf/make_eval_sets.yaml."""

    out: str
    items: int
    world_seed: int

    def __post_init__(self) -> None:
        if self.items < LEAST:
            raise invalid("items", self.items, "are too few for every split", f"use {LEAST} or more")


@entry("make_eval_sets", EvalSetsRequest)
def main(request: EvalSetsRequest) -> None:
    """Write the folder and print commands that run with it."""
    out = make(Path(request.out), request.items, request.world_seed)
    print(f"evaluation sets {out} (MANIFEST.json lists what is in it)")
    print("Sets with the names of published ones have only their format: no number on them is comparable.\n")
    print("\n".join(examples(request.out)))


def examples(out: str) -> list[str]:
    """Commands that run with the folder."""
    return [
        f"python -m experiments.evaluate run=latest suite=full suite.eval_data={out}",
        f'python -m experiments.evaluate run=latest suite.eval_data={out} "suite.tasks=[world_facts,world_agreement]"',
        f"python -m experiments.finetune run=latest task=all eval_data={out}",
        f'python -m experiments.retrieve "models=[latest]" eval_data={out} '
        '"tasks=[world_documents,world_overlap,world_topic]" select_by=world_documents',
        "python -m experiments.harness run --model_args pretrained=latest --tasks world_facts,world_agreement "
        f"--metadata eval_data={out}",
    ]


if __name__ == "__main__":
    main()
