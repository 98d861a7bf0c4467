"""python -m experiments.bad_inputs: try bad inputs with the real commands, and count how they end.

Each area (experiments/campaign/) defines its cases. A case is clear, or a traceback, silent (accepted, lost, half-written, or
without end) or unclear (a line without field or remedy). Exit status 1 if any is not clear.
"""

import csv
import io
import multiprocessing
import shutil
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.exits import EXIT_FAULT, end
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import write_json, write_text
from experiments.campaign import (
    configuration,
    disks,
    environment,
    records,
    run_folders,
    signals,
    strangers,
    texts,
    together,
)
from experiments.campaign.cases import CLEAR, IMPOSSIBLE, KINDS, Case, Outcome, counts, spread
from experiments.campaign.place import Place, build
from experiments.cli.entry import entry

MAKER = "campaign of bad inputs"
AREAS: dict[str, Callable[[Place], list[Case]]] = {
    "configuration": configuration.cases,
    "texts": texts.cases,
    "run_folders": run_folders.cases,
    "records": records.cases,
    "strangers": strangers.cases,
    "permissions": disks.permission_cases,
    "full_disk": disks.full_disk_cases,
    "environment": environment.cases,
    "together": together.cases,
    "signals": signals.cases,
}


@dataclass(frozen=True)
class BadInputsRequest:
    """conf/bad_inputs.yaml."""

    areas: tuple[str, ...] | None
    most: int | None
    jobs: int
    out: str | None

    def __post_init__(self) -> None:
        check_threads("jobs", self.jobs)
        for area in self.areas or ():
            if area not in AREAS:
                raise invalid("areas", area, "is not an area", f"use some of {', '.join(AREAS)}")
        if self.most is not None and self.most < 1:
            raise invalid("most", self.most, "tries nothing", "use 1 or more, or null for all")


@entry("bad_inputs", BadInputsRequest)
def main(request: BadInputsRequest) -> None:
    """Try the areas and print the table; exit status 1 where a case is not clear."""
    torch.set_num_threads(1)
    chosen = {name: AREAS[name] for name in request.areas or AREAS}
    with tempfile.TemporaryDirectory(prefix="bad-inputs-", ignore_cleanup_errors=True) as root:
        outcomes = campaign(chosen, Path(root), request.most, request.jobs)
    rows = counts({area: list(items.values()) for area, items in outcomes.items()})
    wrong = [(area, name, item) for area, items in outcomes.items() for name, item in items.items() if not_clear(item)]
    for area, name, outcome in wrong:
        print(f"\n--- {area}: {name}: {outcome.kind}\n{outcome.printed.strip()}")
    print("\n" + table(rows))
    reasons = {item.printed for items in outcomes.values() for item in items.values() if item.kind == IMPOSSIBLE}
    print("\n".join(f"{IMPOSSIBLE}: {reason}" for reason in sorted(reasons)))
    if request.out is not None:
        with folder_under_construction(Path(request.out), MAKER) as building:
            write_text(building / "bad_inputs.csv", as_csv(rows))
            plain = {area: {name: vars(item) for name, item in items.items()} for area, items in outcomes.items()}
            write_json(building / "bad_inputs.json", plain)
    if wrong:
        end(
            f"{len(wrong)} bad inputs did not end clearly: repair it where the commands share the code",
            EXIT_FAULT,
        )


def not_clear(outcome: Outcome) -> bool:
    """Whether the campaign fails by it."""
    return outcome.kind not in (CLEAR, IMPOSSIBLE)


def campaign(
    areas: dict[str, Callable[[Place], list[Case]]], root: Path, most: int | None = None, jobs: int = 1
) -> dict[str, dict[str, Outcome]]:
    """The outcome of every case of every area, each in a separate folder below `root`."""
    root.chmod(0o755)  # the users of the permission cases have to reach it
    place = build(root / "place")
    tried = {name: spread(make(place), most) for name, make in areas.items()}
    order = [(area, case) for area, cases in tried.items() for case in cases]
    _Shared.order, _Shared.root = order, root
    outcomes: dict[str, dict[str, Outcome]] = {area: {} for area in tried}
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for number, outcome in pool.imap_unordered(_try, range(len(order))):
            area, case = order[number]
            outcomes[area][case.name] = outcome
            if not_clear(outcome):
                print(f"{area}: {case.name}: {outcome.kind}", flush=True)
    return outcomes


class _Shared:
    """What workers have because they are copies of this process."""

    order: list[tuple[str, Case]]
    root: Path


def _try(number: int) -> tuple[int, Outcome]:
    folder = _Shared.root / f"{number}"
    folder.mkdir()
    try:
        return number, _Shared.order[number][1].trial(folder)
    except Exception:
        return number, Outcome("traceback", f"the case itself fails\n{traceback.format_exc()}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(rows: list[dict[str, object]]) -> str:
    """Counts as aligned text, with their sum."""
    names = ("tried", *KINDS)
    total: dict[str, object] = {name: sum(int(str(row[name])) for row in rows) for name in names}
    lines = [f"{'area':<16}" + "".join(f"{name:>{len(name) + 3}}" for name in names)]
    for row in [*rows, {"area": "all"} | total]:
        lines.append(f"{row['area']:<16}" + "".join(f"{row[name]:>{len(name) + 3}}" for name in names))
    return "\n".join(lines)


def as_csv(rows: list[dict[str, object]]) -> str:
    """Counts as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["area", "tried", *KINDS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    main()
