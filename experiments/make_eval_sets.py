"""python -m experiments.make_eval_sets out=my_sets: small sets, with which every command that reads sets runs offline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.data.world.facts import WorldConfig
from ettin_core.data.world.world import World
from ettin_core.evaluation.exports import LICENCE_OF_WORLD
from ettin_core.evaluation.generated import SETS, judgements, task_files
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import append_json_lines, hash_file, write_json, write_text
from experiments.cli.entry import entry

MAKER = "make_eval_sets"
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


def make(out: Path, items: int, seed: int) -> Path:
    """Write the folder of evaluation sets, whole or not at all. Raises ValueError for a folder of another command."""
    world = World(WorldConfig(seed=seed))
    with folder_under_construction(out, MAKER) as building:
        manifest: dict[str, Any] = {}
        for item in SETS:
            rows = list(item.rows(world, items))
            append_json_lines(building / item.file, rows)
            known = {"rows": len(rows), "fields": list(rows[0]), "sha256": hash_file(building / item.file)}
            manifest[item.file] = known | {"licence": LICENCE_OF_WORLD, "form_of": item.form_of}
        for split, pairs in judgements(world, items).items():
            lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{answer}\t1" for query, answer in pairs)]
            write_text(building / f"retrieval/world_documents/qrels/{split}.tsv", "\n".join(lines) + "\n")
        for name, text in task_files(world).items():
            write_text(building / f"tasks/{name}.yaml", text)
        write_json(building / "MANIFEST.json", {"world_seed": seed, "items": items, "files": manifest})
    return out


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
