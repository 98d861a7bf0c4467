"""MosaicML's MDS shards (version 2), read directly: as their writer, `merge_index` or the published Ettin data arrange them.

A raw shard is `uint32 samples | uint32 offsets[samples + 1] | JSON header | samples`. A sample is `uint32 sizes` of the
columns of variable size, then the columns' bytes. A shard may be stored raw, compressed, or both; its index.json gives
both sizes. Folders may state split and source: `train/<source>/<any>/index.json`, `validation/index.json`.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import SPLIT_NAMES, Document, Piece, Skipped, Source, bad, from_row, place_of
from ettin_core.data.importers.folders import Listing, check_leaving, listed
from ettin_core.data.importers.mds_shards import (
    Damaged,
    Shard,
    columns_of,
    decoder,
    known_hashes,
    samples_of,
    shard_bytes,
    shard_file,
)
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.hashes import hash_files
from ettin_core.foundation.storage import canonical_json, hash_text, read_json

INDEX = "index.json"


def find(name: str, config: SourceConfig) -> list[Source]:
    """The sources of a folder: one for each that its sub-folders name, or one under `name` when they name none.

    `config.files` takes only folders that it matches (or whose parents it matches), all of them as one source.

    Raises ValueError for a folder without shards, an index that is none, columns that are not there or cannot be read,
    and folders of which only some state a split.
    """
    assert config.path is not None
    grouped: dict[str, list[tuple[Piece, list[Any]]]] = {}
    stated: dict[bool, Path] = {}
    root = Path(config.path)
    listing = Listing(root)
    check_leaving(config, listing, [link for link in listing.leaving if link.is_dir() or link.name == INDEX])
    shards = list(_within(config, listing, _listed(root, listing, config.files)))
    contents = _contents(root, [(index.parent, shard) for index, _, shard, _ in shards])
    for (index, number, shard, folder), content in zip(shards, contents, strict=True):
        split, source = _names(folder, index.parent.relative_to(root))
        stated.setdefault(split is not None, folder)
        _check_columns(config, index, shard)
        piece = Piece(str(index), split, shard["raw_data"]["bytes"], number, number + 1)
        place = (index.parent / shard["raw_data"]["basename"]).relative_to(root).as_posix()
        identified = [split, place, content]
        grouped.setdefault(source if source and not config.files else name, []).append((piece, identified))
    if len(stated) == 2:
        odd = str(root / stated[False])
        raise invalid("data.path", odd, "states no split while other folders do", "move it below train or validation")
    return [
        Source(
            source,
            config,
            hash_text(canonical_json([content for _, content in parts])),
            tuple(piece for piece, _ in parts),
            listing.not_read,
        )
        for source, parts in sorted(grouped.items())
    ]


def _within(
    config: SourceConfig, listing: Listing, shards: Iterable[tuple[Path, int, Shard, Path]]
) -> Iterator[tuple[Path, int, Shard, Path]]:
    """The shards without those that a link places outside of the folder, which raise ValueError or are counted."""
    leaving = set(listing.leaving)
    for index, number, shard, folder in shards:
        files = (shard["raw_data"], shard["zip_data"])
        outside = leaving & {index.parent / file["basename"] for file in files if file}
        check_leaving(config, listing, outside)
        if not outside:
            yield index, number, shard, folder


def _listed(root: Path, listing: Listing, pattern: str | None) -> Iterator[tuple[Path, int, Shard, Path]]:
    """(index, number, shard, folder of the shard), each shard once: by the topmost index that lists it."""
    indices = sorted((file for file in listing.files if file.name == INDEX), key=lambda path: (len(path.parts), path))
    if not indices:
        rest = f" (not read: {listed(listing.not_read)})" if root.is_dir() and listing.not_read else ""
        raise invalid("data.path", str(root), f"holds no {INDEX}{rest}", "give a folder that was written as MDS")
    by_file: dict[Path, tuple[Path, int, Shard, Path]] = {}
    for index in indices:
        for number, shard in enumerate(_read_index(index)):
            file = (index.parent / shard["raw_data"]["basename"]).relative_to(root)
            by_file.setdefault(file, (index, number, shard, file.parent))
    ordered = sorted(by_file.values(), key=lambda item: (item[3], item[1]))
    wanted = [item for item in ordered if pattern is None or _matches(item[3], pattern)]
    if not wanted:
        problem = "holds no shards" if pattern is None else f"has no folder that matches data.files={pattern!r}"
        example = next((item[3] for item in ordered), "train/<source>")
        raise invalid("data.path", str(root), problem, f"its folders have names such as {example}")
    yield from wanted


def _matches(folder: Path, pattern: str) -> bool:
    return any(fnmatchcase(part.as_posix(), pattern) for part in (folder / "index.json", folder, *folder.parents))


def _names(folder: Path, indexed: Path) -> tuple[str | None, str | None]:
    """(split, source) as the first two folders name them; below an index that joins folders, their names mean nothing."""
    place = next((place for place, part in enumerate(folder.parts[:2]) if part.lower() in SPLIT_NAMES), None)
    names = [part for number, part in enumerate(indexed.parts) if number != place]
    return None if place is None else SPLIT_NAMES[folder.parts[place].lower()], names[0] if names else None


@lru_cache(maxsize=2)
def _parsed(index: Path, modified: int) -> list[Shard]:
    content = read_json(index)
    try:
        shards = content["shards"]
        problem = next((problem for problem in map(_oddity, shards) if problem), None)
    except (KeyError, TypeError) as error:
        shards, problem = [], f"it lacks {error}"
    if problem:
        raise invalid("data.path", str(index), f"is not an index of MDS version 2 ({problem})", "fetch the file again")
    return shards


def _oddity(shard: Shard) -> str | None:
    """What is wrong with an entry of an index; raises KeyError or TypeError when something is missing."""
    if (shard["version"], shard["format"]) != (2, "mds"):
        return f"it is {shard['format']} {shard['version']}"
    if not len(shard["column_names"]) == len(shard["column_encodings"]) == len(shard["column_sizes"]):
        return "its columns do not match"
    files = [file for file in (shard["raw_data"], shard["zip_data"]) if file]
    numbers = [shard["samples"], *(file["bytes"] for file in files)]
    whole = all(isinstance(number, int) for number in numbers) and all(isinstance(f["basename"], str) for f in files)
    if not whole or not shard["raw_data"]:
        return "a shard's entry is incomplete"
    if not all(0 <= number < 2**32 for number in numbers):  # offsets have 32 bits
        return "a shard has a size that no shard can have"
    outside = next((f["basename"] for f in files if {"..", "/"} & set(PurePosixPath(f["basename"]).parts)), None)
    return None if outside is None else f"the shard {outside!r} is outside of its folder"


def _read_index(index: Path) -> list[Shard]:
    return _parsed(index, index.stat().st_mtime_ns)


def _check_columns(config: SourceConfig, index: Path, shard: Shard) -> None:
    encodings = dict(zip(shard["column_names"], shard["column_encodings"], strict=True))
    key, wanted = ("token_field", config.token_field) if config.token_field else ("text_field", config.text_field)
    for field, column in ((f"data.{key}", wanted), *(("data.at_least", name) for name in config.at_least)):
        if column not in encodings:
            raise invalid(field, column, f"is not a column of {index}", f"it has {', '.join(encodings)}")
    for column in _wanted(config, shard):
        encoding = encodings[column]
        if encoding == "pkl":
            problem = f"of {index} is pickled, and reading it could run any program"
            raise invalid("column", column, problem, "write the data again as str, json or ndarray")
        if decoder(encoding) is None:
            problem = f"of {index} is stored as {encoding!r}, which is not read here"
            raise invalid("column", column, problem, "name another column, or write the data again as str or ndarray")


def _wanted(config: SourceConfig, shard: Shard) -> list[str]:
    names = {config.token_field or config.text_field, config.id_field, *config.at_least}
    return [name for name in shard["column_names"] if name in names]


def _contents(root: Path, shards: list[tuple[Path, Shard]]) -> list[Any]:
    """What identifies each shard's content: the hashes its index states, which are checked when it is read, or its own."""
    files: list[Path | None] = []
    for folder, shard in shards:
        try:
            files.append(None if known_hashes(shard["raw_data"]) else shard_file(folder, shard)[0])
        except Damaged:
            files.append(None)  # reading the shard reports or counts it
    hashes = hash_files(root, [file for file in files if file is not None], str(root))
    return [
        known_hashes(shard["raw_data"]) if file is None else hashes[file]
        for (_, shard), file in zip(shards, files, strict=True)
    ]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a shard. The id of one without an id column is its shard's place in the folder and its number, from 1.

    Raises ValueError naming a shard that is absent, damaged or not of the stated hashes, and naming a document that is
    neither text nor tokens, unless `on_bad` is skip. Raises ValueError for a compression that is not read here.
    """
    index = Path(piece.place)
    shard = _read_index(index)[piece.begin]
    place = index.parent / shard["raw_data"]["basename"]
    name = place_of(place, config)
    try:
        for number, sample in enumerate(samples_of(shard_bytes(index.parent, shard), shard["samples"]), start=1):
            yield _document(config, shard, sample, f"{place}, document {number}", f"{name}#{number}")
    except Damaged as error:
        problem = invalid("data.path", str(place), f"is not a complete shard: {error}", "fetch it again")
        yield bad(config, name, problem, "damaged_file")


def _document(config: SourceConfig, shard: Shard, sample: bytes, where: str, default_id: str) -> Document | Skipped:
    columns = columns_of(shard, sample)
    encodings = dict(zip(shard["column_names"], shard["column_encodings"], strict=True))
    try:
        row = {name: decoder(encodings[name])(columns[name]) for name in _wanted(config, shard)}  # type: ignore[misc]
    except (ValueError, IndexError, KeyError, RecursionError) as error:
        problem = invalid("data.path", where, f"does not hold what its columns say ({error})", "fetch the shard again")
        return bad(
            config, default_id, problem, f"invalid_{'tokens' if config.token_field else 'text'}", repr(sample[:200])
        )
    return from_row(row, config, where, default_id)
