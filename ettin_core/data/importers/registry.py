"""The importers by name: find the sources of a corpus, read a piece of one."""

import re
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from ettin_core.data.config import DataConfig, SourceConfig, check_mixture
from ettin_core.data.documents import Document, Piece, Skipped, Source
from ettin_core.data.importers import files, huggingface, mds, world
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import canonical_json, hash_text

IMPORTERS: dict[str, ModuleType] = {"world": world, "text": files, "huggingface": huggingface, "mds": mds}


def find_sources(config: DataConfig) -> list[Source]:
    """The sources of a corpus, sorted by name.

    Raises ValueError for paths and files that cannot be read, and for a mixture that names a source there is not.
    """
    sources: list[Source] = []
    for name, source in config.source_configs().items():
        imported = IMPORTERS[source.kind].find(name, source)
        sources += [_joined(name, source, imported)] if config.sources else imported
    names = sorted(source.name for source in sources)
    for name in names:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise invalid(
                "data.sources", name, "is not a valid name of a file", "use letters, digits, '.', '_', '+' and '-'"
            )
    for phase, mixture in config.mixtures.items():
        check_mixture(f"data.mixtures.{phase}", mixture, names)
    return sorted(sources, key=lambda source: source.name)


def _joined(name: str, config: SourceConfig, sources: list[Source]) -> Source:
    """A source that was named is one source, whatever names its files have."""
    if len(sources) == 1:
        return replace(sources[0], name=name)
    identity = hash_text(canonical_json([[source.name, source.identity] for source in sources]))
    pieces = tuple(piece for source in sources for piece in source.pieces)
    return Source(name, config, identity, pieces, sources[0].not_read)


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a piece, in order, and what was left out with the reason."""
    return IMPORTERS[config.kind].read(config, piece)
