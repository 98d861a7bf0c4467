"""What was found: the records of studies in `paper/results`, and every page, table and figure that is made from them.

`python -m analysis.results` makes all of it anew from the records alone, without torch, and the paper with `paper=paper`.
It names what was stale, and stops before it would lose an edit made by hand. `check=true` writes nothing and names both.
`add=<studies/...>` first packs the records of one more study.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from analysis import coverage_files, findings, paper, report
from analysis.artifacts import MANIFEST, different, sha256
from analysis.command import command
from analysis.findings import Made
from analysis.records_archive import ARCHIVE, STUDY, pack, unpacked
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import read_mapping, write_bytes, write_json
from ettin_core.records.studies import read_study

KEPT = (".html", ".md", ".csv", ".tex", ".png")  # of a report; the paper takes its other files
Files = dict[Path, bytes]


def reports(results: Path) -> Files:
    """The files of every packed study's report by path, made from its records; studies side by side."""
    archives = sorted(results.glob(f"*/{ARCHIVE}"))
    workers = min(len(archives), os.cpu_count() or 1)
    if workers < 2:
        built = list(map(_reported, archives))
    else:
        with ProcessPoolExecutor(workers) as pool:  # the largest first, so that none is left alone at the end
            largest = sorted(archives, key=lambda archive: archive.stat().st_size, reverse=True)
            making = {archive: pool.submit(_reported, archive) for archive in largest}
            built = [making[archive].result() for archive in archives]
    return {
        archive.parent / name: content
        for archive, files in zip(archives, built, strict=True)
        for name, content in files.items()
    }


def kept(reported: Mapping[Path, bytes]) -> Files:
    """The files of reports that are committed."""
    return {path: content for path, content in reported.items() if path.suffix in KEPT}


def listed(results: Path, readme: Path, listing: Made) -> Files:
    """The list of findings and the README with them, by path."""
    files = {results / name: content for name, content in listing.files.items()}
    return files | {readme: findings.inserted(readme.read_text(), listing.block, readme).encode()}


def write(results: Path, readme: Path, files: Mapping[Path, bytes]) -> None:
    """Write every generated file and the manifest; remove what no record makes any more.

    The manifest goes first and comes last: what a kill leaves half-written is stale, and not taken for an edit.
    """
    for stale in _written_before(results).keys() - files.keys():
        stale.unlink(missing_ok=True)
    (results / MANIFEST).unlink(missing_ok=True)
    for path, content in files.items():
        write_bytes(path, content)
    hashes = {_name(path, results): sha256(content) for path, content in files.items() if path != readme}
    write_json(results / MANIFEST, hashes)


def edits(results: Path) -> list[str]:
    """A line for each generated file that is not as it was written."""
    hashes = {_name(path, results): noted for path, noted in _written_before(results).items()}
    return [f"{path} was edited by hand" for path in different(results, hashes)]


def stale(results: Path, files: Mapping[Path, bytes]) -> list[str]:
    """A line for each file that the records make otherwise, or not at all.

    Images are compared by the data beside them: another font library draws other pixels.
    """
    unmade = sorted(_generated(results) - files.keys())
    lines = [f"{path} is not made from any record (delete it, or move it elsewhere)" for path in unmade]
    if not (results / MANIFEST).exists():
        lines.append(f"{results / MANIFEST} is missing")
    for path, content in files.items():
        if not path.exists():
            lines.append(f"{path} is missing")
        elif path.suffix != ".png" and _without_images(path.read_bytes()) != _without_images(content):
            lines.append(f"{path} is stale")
    return lines


def _reported(archive: Path) -> dict[str, bytes]:
    """The report of a packed study, by file name."""
    with unpacked(archive) as folder, tempfile.TemporaryDirectory() as scratch, _silence():
        written = report.build(folder / "runs", Path(scratch) / "report", folder / STUDY, packed=ARCHIVE)
        files = {file.name: file.read_bytes() for file in written}
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


def _written_before(results: Path) -> dict[Path, str]:
    """What the manifest lists, with its hashes: the only files that are ever removed."""
    manifest = results / MANIFEST
    return {results / name: noted for name, noted in read_mapping(manifest).items()} if manifest.exists() else {}


def _name(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


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
    edited = [*edits(results), *(paper.edits(Path(config.paper)) if config.paper else [])]
    if edited and not config.check:
        raise UserError(f"{'; '.join(edited)}; undo the edit or delete it, then start again.")
    reported = reports(results)
    listing = findings.make(results, readme, kept(reported))
    files = kept(reported) | listed(results, readme, listing) | coverage_files.committed(results)
    lines = [*stale(results, files), *coverage_files.stale(results)]
    if config.check:
        if edited or lines:
            remedy = "undo an edit or delete the file; python -m analysis.results makes the rest anew"
            raise UserError(f"{'; '.join([*edited, *lines])}; {remedy}.")
    else:
        write(results, readme, files)
        print("\n".join([*lines, f"made     {len(files)} files in {results}, and the findings of {readme}"]))
    if not lines:
        print(f"nothing stale in {results} and {readme}")
    if config.paper and not config.check:
        print(f"paper    {paper.write(Path(config.paper), results, reported, listing)}")


if __name__ == "__main__":
    main()
