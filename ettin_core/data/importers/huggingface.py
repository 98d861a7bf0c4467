"""Datasets of Hugging Face's library: a hub id, a folder of data files (both streamed), or one of `save_to_disk` (mapped).

Splits named train, validation (valid, val, dev) and test (eval) are stated splits; others beside them are left out. A dataset of
one split is split by the documents' ids. Numbers of rows and shards in ids are the library's own, from 0.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import SPLIT_NAMES, Document, Piece, Skipped, Source, bad, from_row
from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.foundation.hashes import hash_files
from ettin_core.foundation.storage import canonical_json, hash_text

_ROWS = 20_000
_SHARD = 2**26  # assumed bytes of a shard on the hub


def find(name: str, config: SourceConfig) -> list[Source]:
    """The one source that a dataset is, in ranges of rows when it is mapped and in its own shards when it is streamed.

    `config.files` is handed on as `data_files`. A dataset on the hub is fixed to the commit its revision has now.

    Raises ValueError for a dataset that cannot be had, a column that is not there, and splits of which none is known.
    """
    path = Path(str(config.path))
    if path.is_file() or (config.files and _is_saved(path)):
        raise invalid("data.path", str(path), "is one dataset or file", "give its folder, or leave data.files null")
    commit = None if path.exists() else _commit(config)
    datasets = _open(str(path), config.subset, config.files, commit)
    splits = _chosen(config, list(datasets))
    for split in splits:
        _check_columns(config, datasets[split])
    if _is_saved(path):
        pieces = [piece for split, stated in splits.items() for piece in _ranges(datasets[split], split, stated)]
        files = [Path(file["filename"]) for split in splits for file in datasets[split].cache_files]
    else:
        files = _visible_files(path)
        shards = {split: datasets[split].num_shards for split in splits}
        size = sum(file.stat().st_size for file in files) // sum(shards.values()) if files else _SHARD
        pieces = [
            Piece(f"{split}@{commit}" if commit else split, stated, size, number, number + 1)
            for split, stated in splits.items()
            for number in range(shards[split])
        ]
    hashes = {} if commit else hash_files(path, files, str(path))
    content = commit or [[file.relative_to(path).as_posix(), hashes[file]] for file in files]
    identity = hash_text(canonical_json([list(splits), content, config.subset, config.files]))
    return [Source(name, config, identity, tuple(pieces))]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a range of rows or a shard; the id of one without an id is its split, shard and row.

    Raises ValueError for a row without text and a shard that cannot be read, unless `on_bad` is skip; a connection that
    breaks always ends the reading.
    """
    split, _, commit = piece.place.partition("@")
    dataset = _opened(str(config.path), config.subset, config.files, commit or None)[split]
    if _is_saved(Path(str(config.path))):
        assert piece.end is not None
        first, prefix = piece.begin, split
        dataset = dataset.with_format(None).select(range(piece.begin, piece.end))
    else:
        first, prefix = 0, f"{split}/{piece.begin}"
        dataset = dataset.shard(num_shards=dataset.num_shards, index=piece.begin)
    if dataset.column_names:
        dataset = dataset.select_columns([name for name in dataset.column_names if name in _wanted(config)])
    rows = iter(dataset)
    number = first
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # each of the library's formats has its own errors
            problem = invalid(
                "data.path", config.path, f"cannot be read at {prefix} ({_line(error)})", "fetch it again"
            )
            if commit:
                raise problem from error
            yield bad(config, prefix, problem, "damaged_file")
            return
        yield from_row(row, config, f"{config.path}, {prefix}/{number}", f"{prefix}/{number}")
        number += 1


def _open(path: str, subset: str | None, files: str | None, commit: str | None) -> dict[str, Any]:
    """The splits by name. Raises ValueError if there is no such dataset, or it needs a subset."""
    _need_library(path)
    import datasets

    try:
        if _is_saved(Path(path)):
            loaded = datasets.load_from_disk(path)
            return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
        return dict(datasets.load_dataset(path, name=subset, data_files=files, revision=commit, streaming=True))
    except Exception as error:  # each of the library's formats has its own errors
        field, value = ("data.subset", subset) if "onfig" in str(error) else ("data.path", path)
        raise invalid(field, value, f"cannot be opened as a dataset ({_line(error)})", "see what it holds") from error


_opened = lru_cache(maxsize=1)(_open)  # a worker reads many pieces of one dataset


def _need_library(path: str) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise invalid(
            "data.path", path, "needs the package datasets, which is not installed", with_extra("data")
        ) from error


def _commit(config: SourceConfig) -> str:
    """What a revision of a dataset on the hub is now."""
    _need_library(str(config.path))
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(str(config.path), revision=config.revision).sha
    except Exception as error:  # an absent dataset, a closed one, no connection: each has its own error
        problem = f"is not a folder here, and the hub does not have it ({_line(error)})"
        raise invalid("data.path", config.path, problem, "check path, revision and connection") from error
    return str(commit)


def _is_saved(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def _visible_files(path: Path) -> list[Path]:
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def _chosen(config: SourceConfig, names: list[str]) -> dict[str, str | None]:
    """The splits to read and what they state: nothing, where one holds everything."""
    known: dict[str, str | None] = {name: SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES}
    usable = known or dict.fromkeys(names)
    if not known and len(names) != 1:
        problem = f"has no split named train, validation or test (it has {', '.join(names) or 'none'})"
        raise invalid("data.path", config.path, problem, "rename the splits, or save the one to read on its own")
    return dict.fromkeys(usable) if len(usable) == 1 else usable


def _wanted(config: SourceConfig) -> set[str]:
    return {config.token_field or config.text_field, config.id_field, *config.at_least}


def _check_columns(config: SourceConfig, dataset: Any) -> None:
    key, wanted = ("token_field", config.token_field) if config.token_field else ("text_field", config.text_field)
    has = dataset.column_names  # a stream may not know them before it is read
    for field, column in [(f"data.{key}", wanted), *(("data.at_least", name) for name in config.at_least)]:
        if has and column not in has:
            raise invalid(field, column, f"is not a column of the dataset {config.path}", f"it has {', '.join(has)}")


def _ranges(dataset: Any, split: str, stated: str | None) -> list[Piece]:
    edges = [*range(0, len(dataset), _ROWS), len(dataset)]
    size = dataset.data.nbytes // max(1, len(dataset))
    return [
        Piece(split, stated, size * (end - begin), begin, end) for begin, end in zip(edges, edges[1:], strict=False)
    ]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
