"""What was found: the records of studies in `paper/results`, and every page, table and figure that is made from them.

`python -m analysis.results` makes all of it anew from the records alone, without torch; `check=true` writes nothing and
names each file that is stale or was edited. `add=<studies/...>` first packs the records of one more study.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from analysis import findings, report
from analysis.command import command
from analysis.records_archive import ARCHIVE, STUDY, pack, unpacked
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import read_mapping, write_bytes, write_json
from ettin_core.records.studies import read_study

MANIFEST = "manifest.json"  # sha256 of every generated file, so that an edit by hand is found
KEPT = (
    ".html",
    ".md",
    ".csv",
    ".png",
)  # of a report; LaTeX and PDF are made from the same records when a paper needs them


def reports(results: Path) -> dict[Path, bytes]:
    """The files of every packed study's report by path, made from its records."""
    archives = sorted(results.glob(f"*/{ARCHIVE}"))
    return {archive.parent / name: content for archive in archives for name, content in _reported(archive).items()}


def listed(results: Path, readme: Path, reported: Mapping[Path, bytes]) -> dict[Path, bytes]:
    """The list of findings and the README with them, by path, from the files of the studies' reports."""
    listing = findings.make(results, readme, reported)
    files = {results / name: content for name, content in listing.files.items()}
    return files | {readme: findings.inserted(readme.read_text(), listing.block, readme).encode()}


def write(results: Path, readme: Path) -> list[Path]:
    """Write every generated file and the manifest; remove what no record makes any more. Returns the files."""
    reported = reports(results)
    files = reported | listed(results, readme, reported)
    for stale in _written_before(results) - files.keys():
        stale.unlink(missing_ok=True)
    for path, content in files.items():
        write_bytes(path, content)
    hashes = {_name(path, results): _sha256(content) for path, content in files.items() if path != readme}
    write_json(results / MANIFEST, hashes)
    return [*files, results / MANIFEST]


def problems(results: Path, readme: Path, reported: Mapping[Path, bytes]) -> list[str]:
    """A line for each generated file that is not what the reports give, or that somebody edited.

    Images are compared by their data, and by the hash that they were written with: another font library draws other pixels.
    """
    files = {**reported, **listed(results, readme, reported)}
    written = read_mapping(results / MANIFEST, "run python -m analysis.results")
    lines = [
        f"{path} is not made from any record (delete it, or move it elsewhere)"
        for path in sorted(_generated(results) - files.keys())
    ]
    for path, content in files.items():
        present = path.read_bytes() if path.exists() else None
        if present is None:
            lines.append(f"{path} is missing")
        elif path != readme and _sha256(present) != written.get(_name(path, results)):
            lines.append(f"{path} was edited by hand")
        elif path.suffix != ".png" and _without_images(present) != _without_images(content):
            lines.append(f"{path} is stale")
    return lines


def _reported(archive: Path) -> dict[str, bytes]:
    """The report of a packed study, by file name."""
    with unpacked(archive) as folder, tempfile.TemporaryDirectory() as scratch, _silence():
        written = report.build(folder / "runs", Path(scratch) / "report", folder / STUDY)
        files = {file.name: file.read_bytes() for file in written if file.suffix in KEPT}
        return files | {"README.md": _overview(read_study(folder / STUDY), files).encode()}


def _overview(study: dict[str, Any], files: dict[str, bytes]) -> str:
    """The report as one page of Markdown, for whoever browses the folder: figures first, then the tables."""
    figures = [f"![{name}]({name})" for name in files if name.endswith(".png")]
    tables = [content.decode() for name, content in files.items() if name.endswith(".md")]
    return (
        "\n\n".join(
            [f"# {study['name']}", str(study.get("claim", "")), *figures, *(table.rstrip() for table in tables)]
        )
        + "\n"
    )


def _generated(results: Path) -> set[Path]:
    inside = {path for path in results.glob("*/*") if path.is_file() and path.name != ARCHIVE}
    return inside | {results / name for name in findings.NAMES if (results / name).exists()}


def _written_before(results: Path) -> set[Path]:
    """What the manifest lists: the only files that are ever removed."""
    manifest = results / MANIFEST
    return {results / name for name in read_mapping(manifest)} if manifest.exists() else set()


def _name(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_images(content: bytes) -> bytes:
    return re.sub(rb"data:image/png;base64,[A-Za-z0-9+/=]+", b"", content)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@command("results")
def main(config: DictConfig) -> None:
    """The command line."""
    results, readme = Path(config.results), Path(config.readme)
    if not readme.is_file():
        raise invalid("readme", config.readme, "is not a file", "run it in the checkout, or name its README")
    if config.check and config.add:
        raise invalid("add", config.add, "would write, and check=true writes nothing", "leave one of them out")
    if config.add:
        print(f"packed   {pack(Path(config.add), Path(config.runs), results)}")
    if not config.check:
        print(f"made     {len(write(results, readme))} files in {results}, and the findings of {readme}")
    elif lines := problems(results, readme, reports(results)):
        raise UserError(f"{'; '.join(lines)}; python -m analysis.results makes them anew.")
    else:
        print(f"nothing stale in {results} and {readme}")


if __name__ == "__main__":
    main()
