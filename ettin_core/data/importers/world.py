"""The embedded generator as a source: any range of its documents can be written on its own."""

from collections.abc import Iterator

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import SPLITS, Document, Piece, Skipped, Source
from ettin_core.data.world import World, WorldConfig
from ettin_core.foundation.storage import hash_text

_RANGE = 10_000
_WORK = 1024  # one document takes about as long as a kilobyte of text that only has to be read


def world_of(config: SourceConfig) -> World:
    """The world a corpus was written by."""
    return World(WorldConfig(seed=config.world_seed))


def find(name: str, config: SourceConfig) -> list[Source]:
    """The one source of a world: the stated number of training documents, a fiftieth (64 at least) for the other splits."""
    training = config.documents or 0
    counts = {split: training if split == "train" else max(64, training // 50) for split in SPLITS}
    pieces = tuple(
        Piece("world", split, (min(begin + _RANGE, count) - begin) * _WORK, begin, min(begin + _RANGE, count))
        for split, count in counts.items()
        for begin in range(0, count, _RANGE)
    )
    return [Source(name, config, hash_text(f"{world_of(config).config}|{training}"), pieces)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """Documents begin..end of a split, with their exact log-probability."""
    assert piece.split is not None and piece.end is not None
    for document in world_of(config).documents(piece.split, piece.end - piece.begin, piece.begin):
        yield Document(document.id, document.text, log_probability=document.log_probability)
