"""What is to be prepared: sources, their parts, and the corpus's name. Stored in a file for the workers."""

from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ettin_core.data.config import DataConfig
from ettin_core.data.documents import NotRead, Source
from ettin_core.data.importers.folders import EXAMPLES
from ettin_core.data.importers.registry import find_sources
from ettin_core.data.preparation.partitions import Partition, partition
from ettin_core.data.tokenizer import Tokenizer, policy_hash
from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.foundation.storage import content_name
from ettin_core.foundation.strict_config import identity

ELSEWHERE = ("path", "mixtures", "sources")  # neither the place of the text nor the recipe is part of a corpus's name


@dataclass(frozen=True)
class Plan:
    """A corpus to prepare, with its sources as they were found."""

    config: DataConfig
    sources: tuple[Source, ...]

    @property
    def corpus_name(self) -> str:
        """The content name: what the corpus is, not where it is stored."""
        content = {key: value for key, value in identity(self.config).items() if key not in ELSEWHERE}
        if self.config.tokenizer is not None:
            content["tokenizer"] = policy_hash(Tokenizer(Path(self.config.tokenizer)))
        if self.config.kind != "world" or self.config.sources:
            content["held_out"] = "copies are taken out of train"  # not so in corpora of this name from before
        content["sources"] = [
            [source.name, source.identity, replace(source.config, path=None), _versions(source)]
            for source in self.sources
        ]
        return content_name(self.config.name, content)

    @cached_property
    def parts(self) -> list[Partition]:
        """All parts, source after source, in the order of their documents."""
        return [part for source in self.sources for part in partition(source)]

    @cached_property
    def not_read(self) -> dict[str, NotRead]:
        """By reason, what of the sources' folders is not read; sources in one folder share it."""
        merged: dict[str, NotRead] = {}
        for not_read in {source.config.path: source.not_read for source in self.sources}.values():
            for reason, entry in not_read.items():
                earlier = merged.get(reason, NotRead(0, ()))
                merged[reason] = NotRead(earlier.count + entry.count, (earlier.examples + entry.examples)[:EXAMPLES])
        return merged

    def source(self, name: str) -> Source:
        """A source by name."""
        return next(source for source in self.sources if source.name == name)


def _versions(source: Source) -> dict[str, str]:
    """Versions of the libraries that decide what of a source is kept. Raises ValueError for one that is absent."""
    try:
        return {package: version(package) for package in source.config.curation.packages}
    except PackageNotFoundError as error:
        raise invalid("data.curation", source.name, f"needs {error.name}", with_extra("curation")) from error


def expected_ids(config: DataConfig) -> int:
    """How many ids the tokenizer of a corpus will have: the largest id plus one if it is given, else `vocab_size`."""
    return config.vocab_size if config.tokenizer is None else Tokenizer(Path(config.tokenizer)).vocab_size


def make_plan(config: DataConfig) -> Plan:
    """Find the sources of a corpus. Raises ValueError for what cannot be read."""
    return Plan(config, tuple(find_sources(config)))
