"""The environment of a command: variables, encodings, closed streams, folders with odd names."""

import os
from collections.abc import Callable
from pathlib import Path

from ettin_core.foundation.override_text import assignment
from experiments.campaign.cases import ACCEPTED, EITHER, REFUSED, Case, Input
from experiments.campaign.place import SUITE, TINY, Place
from experiments.campaign.processes import Environment

TRAIN = ("member=encoder", *TINY)
ODD_FOLDERS = (
    "ettin (copy)",
    "lr=1e-3",
    "a,b",
    "it's",
    "[v2]",
    "日本",
    "a b",
    "50% off",
    "$x",
    '"quoted"',
    "a\\b",
    "~",
    "{a}",
)
GROUP: dict[str, str | None] = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29555"}
VARIABLES: dict[str, tuple[dict[str, str | None], str, tuple[str, ...]]] = {
    "RANK alone": ({"RANK": "0"}, REFUSED, ("WORLD_SIZE",)),
    "RANK and WORLD_SIZE": ({"RANK": "0", "WORLD_SIZE": "2"}, REFUSED, ("MASTER_ADDR",)),
    "no MASTER_PORT": ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, REFUSED, ("MASTER_PORT",)),
    "RANK as text": (GROUP | {"RANK": "zero"}, REFUSED, ("RANK",)),
    "RANK beyond": (GROUP | {"RANK": "5"}, REFUSED, ("RANK",)),
    "WORLD_SIZE as text": (GROUP | {"WORLD_SIZE": "all"}, REFUSED, ("WORLD_SIZE",)),
    "MASTER_PORT as text": (GROUP | {"MASTER_PORT": "x"}, REFUSED, ("MASTER_PORT",)),
    "LOCAL_RANK alone": ({"LOCAL_RANK": "0"}, EITHER, ()),
    "WORLD_SIZE alone": ({"WORLD_SIZE": "2"}, EITHER, ("WORLD_SIZE", "RANK")),
    "no HOME": ({"HOME": None}, ACCEPTED, ()),
    "HOME nowhere": ({"HOME": "/nonexistent/home"}, ACCEPTED, ()),
    "TMPDIR nowhere": ({"TMPDIR": "/nonexistent/tmp"}, ACCEPTED, ()),
    "COLUMNS as text": ({"COLUMNS": "wide"}, ACCEPTED, ()),
    "no PATH": ({"PATH": None}, ACCEPTED, ()),
    "OMP_NUM_THREADS as text": ({"OMP_NUM_THREADS": "many"}, EITHER, ("OMP_NUM_THREADS",)),
    "no TERM": ({"TERM": None}, ACCEPTED, ()),
    "cache nowhere": ({"ETTIN_CACHE": "/proc/nowhere"}, EITHER, ("/proc/nowhere",)),
    "no user": ({"USER": None, "LOGNAME": None}, ACCEPTED, ()),
}  # fmt: skip
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-16")


def _closed(number: int) -> Callable[[], None]:
    """Close a stream."""
    return lambda: os.close(number)


def _nobody_reads() -> None:
    """Write into a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)


def _full() -> None:
    """Write to a device that is always full."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _gone() -> None:
    """Change into a folder and remove it."""
    place = Path("gone")
    place.mkdir()
    os.chdir(place)
    Path("../gone").rmdir()


def cases(place: Place) -> list[Case]:
    """A case for each of them, with a command that it may affect."""
    result = []
    for title, (variables, expect, names) in VARIABLES.items():
        environment = Environment(variables)
        result.append(
            Case(
                f"train: {title}", Input("experiments.train", TRAIN, names, expect, place.copy("corpora"), environment)
            )
        )
    for encoding in ENCODINGS:
        environment = Environment(encoding=encoding)
        for title, command, arguments in _printers():
            prepare = place.copy("corpora", "runs", "study.json")
            result.append(Case(f"{title}: {encoding}", Input(command, arguments, (), ACCEPTED, prepare, environment)))
    for title, before in {"stdout closed": _closed(1), "stderr closed": _closed(2), "stdin closed": _closed(0)}.items():
        environment = Environment(before=before)
        result.append(
            Case(f"runs: {title}", Input("experiments.runs", (), (), EITHER, place.copy("runs"), environment))
        )
    full = Input("experiments.runs", (), ("stdout", "No space"), EITHER, place.copy("runs"), Environment(before=_full))
    result.append(Case("runs: stdout full", full))
    pipe = Environment(before=_nobody_reads)
    result.append(Case("runs: nobody reads", Input("experiments.runs", (), (), EITHER, place.copy("runs"), pipe)))
    environment = Environment(before=_gone)
    result.append(
        Case(
            "train: the folder is gone",
            Input("experiments.train", TRAIN, ("corpora", "folder"), environment=environment),
        )
    )
    for name in ODD_FOLDERS:
        result.append(Case(f"report in {name}", _in_odd(place, name)))
    return result


def _printers() -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        ("report", "analysis.report", ("runs=runs", "out='報告'", "record=study.json")),
        ("evaluate", "experiments.evaluate", ("run=latest", *SUITE)),
    ]


def _in_odd(place: Place, name: str) -> Input:
    """A report begun from a folder of this name, as a study begins it."""

    def prepare(folder: Path) -> None:
        (folder / name).mkdir()
        place.copy("runs", "study.json")(folder / name)

    arguments = [assignment(key, Path(name) / value) for key, value in
                 (("runs", "runs"), ("out", "report"), ("record", "study.json"))]  # fmt: skip
    return Input("analysis.report", tuple(arguments), (), ACCEPTED, prepare)
