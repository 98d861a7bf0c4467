"""The folder of the generated evaluation sets: every command that reads sets runs offline with it."""

from pathlib import Path
from typing import Any

from ettin_core.data.world.facts import WorldConfig
from ettin_core.data.world.world import World
from ettin_core.evaluation.exports import LICENCE_OF_WORLD
from ettin_core.evaluation.generated import SETS, judgements, task_files
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import append_json_lines, hash_file, write_json, write_text

MAKER = "make_eval_sets"


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
