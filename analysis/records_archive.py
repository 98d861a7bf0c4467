"""The records of a study in one compressed file: what a report reads of each run, without weights. The same bytes each time."""

import io
import lzma
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import write_bytes
from ettin_core.records.folders import RunFolder, run_folders
from ettin_core.records.studies import read_study

ARCHIVE = "records.tar.xz"
STUDY = "study.json"
LARGEST = 1 << 30  # bytes that an archive may unpack to
NOT_RECORDS = ("checkpoints", "hf", "stages", "tensorboard", "heartbeat.json")  # weights, exports and signs of life


def pack(study: Path, runs: Path, results: Path) -> Path:
    """Write `results/<name of the study>/records.tar.xz` from a study's folder and the folder of its runs; returns the file.

    Raises ValueError for a study of which a run is missing, and for records that hold a path of this machine.
    """
    file = study / STUDY if study.is_dir() else study
    record = read_study(file)
    folders = {folder.name: folder for folder in run_folders(runs)}
    wanted = sorted({*record["runs"], *(cell["run"] for cell in record.get("cells", []))})
    missing = [name for name in wanted if name not in folders or not folders[name].complete]
    if missing:
        remedy = "start the study again, which trains what is missing"
        raise invalid("add", str(study), f"lacks {len(missing)} of its {len(wanted)} runs, first {missing[0]}", remedy)
    members = {STUDY: file.read_bytes()}
    for name in wanted:
        members |= {f"runs/{name}/{path}": content for path, content in _records(folders[name])}
    _check_paths(members, runs)
    target = results / str(record["name"]) / ARCHIVE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, _archive(members))
    return target


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A temporary folder with `study.json` and `runs/`. Raises ValueError for a file that is not such an archive."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with tarfile.open(archive, "r:xz") as packed:
                members = packed.getmembers()
                if sum(member.size for member in members) > LARGEST:
                    raise invalid("records", str(archive), "unpacks to more than 1 GiB", "pack the study again")
                packed.extractall(scratch, members, filter="data")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise UserError(
                f"records={str(archive)!r} is damaged ({error}); restore it, or pack the study again."
            ) from error
        yield Path(scratch)


def _records(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.path.rglob("*")):
        inside = path.relative_to(folder.path)
        skipped = inside.parts[0].partition("@")[0] in NOT_RECORDS or any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not skipped:
            yield inside.as_posix(), path.read_bytes()


def _check_paths(members: dict[str, bytes], runs: Path) -> None:
    """Records are published: the folder that holds the runs on this machine is nobody's business and means nothing elsewhere."""
    places = {runs.resolve().parent, Path.home()} - {Path("/")}
    paths = [f"{place}/".encode() for place in sorted(places)]
    for name, content in members.items():
        for here in (path for path in paths if path in content):
            raise invalid(
                "add", name, f"holds a path of this machine ({here.decode()}...)", "give relative paths when training"
            )


def _archive(members: dict[str, bytes]) -> bytes:
    """A tar file with sorted names and no times or owners, compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=9) as packed:
        for name, content in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
