"""What a tuning measured, as records of two runs: its base, and the tuned model as a run. One name and settings let them meet."""

from dataclasses import replace
from pathlib import Path

from ettin_core.evaluation.chat.tuning import IDENTITY, VERSION, write_records
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.storage import read_mapping
from ettin_core.records.evaluations import place_of
from ettin_core.records.files import read_items, read_measurements
from ettin_core.records.folders import RunFolder


def record_in_runs(tuned: Path, base: RunFolder, run: RunFolder) -> None:
    """Write the records of a tuned folder, before and after tuning, to both runs."""
    measuring = read_mapping(tuned / IDENTITY)["measured"]
    for place, home in ((tuned / "before", base), (tuned, run)):
        known = home.summary()
        named = {name: known[name] for name in ("run", "member", "size", "seed")}
        named["checkpoint"] = known["final_checkpoint"]
        settings = measuring | {"weights": known["final_weights"]}
        for folder in sorted((place / "evaluations").glob(f"[!.]*@{VERSION}")):
            rows = [
                replace(row, **named, provenance=row.provenance | {"settings": measuring})
                for row in read_measurements(folder / "measurements.jsonl")
            ]
            items = [replace(item, run=home.name) for item in read_items(folder / "items.jsonl")]
            protocol = folder.name.partition("@")[0]
            with locked(home.path / "evaluations", wait=True):
                target = place_of(home.evaluation_folder(protocol, VERSION), settings)
                with folder_under_construction(target) as building:
                    write_records(building, (rows, items), settings)
