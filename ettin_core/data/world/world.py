"""The world itself: documents by split and index, with their exact probability."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ettin_core.data.world.choices import Chooser, StreamChooser
from ettin_core.data.world.documents import BUILDERS, MIXTURE, Labels, person_document
from ettin_core.data.world.facts import Facts, Occupation, WorldConfig
from ettin_core.data.world.grammar import Writer

SPLITS = ("train", "validation", "test")
RARE = "rare"


@dataclass(frozen=True)
class WorldDocument:
    """A document and what is true of it.

    Attributes:
        id: split and index, unique in the world.
        kind: a key of ``BUILDERS``, or "rare".
        text: sentences, one space apart.
        log_probability: natural logarithm of the exact probability of the whole text, including where it ends, under
            the generator that knows all facts. It includes the choice of the kind, except for "rare" documents: these
            are at stated indices outside the mixture, and theirs is the marginal over all rare people.
        labels: by kind: person, pronoun and facts (person, rare), town and facts, treasure and facts, occupation and
            pronoun (story), questions as (question, answer) pairs (question, scene), label, premise and claim
            (entailment), topic.
    """

    id: str
    kind: str
    text: str
    log_probability: float
    labels: Labels


class World:
    """A small world whose texts and truths follow from its configuration.

    ``document`` is a pure function of configuration, split and index, so any part of a split can be made in any
    order, anywhere. Documents are drawn independently from a mixture of kinds, except that training documents at the
    indices of ``rare_index`` state the facts of a rare person, once and nowhere else.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.facts = Facts(config)

    @property
    def occupations(self) -> tuple[Occupation, ...]:
        """The occupations of protagonists with the stated ratio of their pronouns."""
        return self.facts.occupations

    def rare_index(self, person: int) -> int:
        """The index in the training split of the document about ``facts.rare_people[person]``.

        Raises:
            IndexError: if there is no person of this number.
        """
        if not 0 <= person < self.config.rare_people:
            raise IndexError(f"person={person}: this world has {self.config.rare_people} rare people")
        return (person + 1) * self.config.rare_every - 1

    def document(self, split: str, index: int) -> WorldDocument:
        """The document at ``index`` of an endless split.

        Raises:
            ValueError: if the split is not "train", "validation" or "test", or the index is negative.
        """
        if split not in SPLITS or index < 0:
            raise ValueError(f"split={split!r}, index={index}: give one of {SPLITS} and an index >= 0")
        writer = self.writer(StreamChooser("ettin-world", self.config.seed, split, index))
        person, rest = divmod(index + 1, self.config.rare_every)
        if split == "train" and rest == 0 and person <= self.config.rare_people:
            kind = RARE
            labels = person_document(writer, self.facts.rare_people[person - 1], rare=True)
            writer.chooser.log_probability -= math.log(self.config.rare_people)
        else:
            kind, labels = write_document(writer)
        return WorldDocument(f"{split}/{index}", kind, writer.text, writer.chooser.log_probability, labels)

    def documents(self, split: str, count: int, start: int = 0) -> Iterator[WorldDocument]:
        """``count`` documents of a split, from index ``start`` on."""
        return (self.document(split, index) for index in range(start, start + count))

    def expected_entropy(self, count: int) -> float:
        """Nats per character of a perfect model of this world, measured on the first ``count`` validation documents.

        The characters are those of the texts; the end of a document is paid for but not counted.

        Raises:
            ValueError: if count is below one.
        """
        if count < 1:
            raise ValueError(f"count={count}: give at least one document")
        documents = list(self.documents("validation", count))
        return -sum(d.log_probability for d in documents) / sum(len(d.text) for d in documents)

    def writer(self, chooser: Chooser) -> Writer:
        """An empty document about this world whose decisions ``chooser`` makes."""
        return Writer(chooser, self.facts)


def write_document(writer: Writer) -> tuple[str, Labels]:
    """Writes one document of the mixture; returns its kind and labels."""
    kind = writer.chooser.weighted(MIXTURE)
    return kind, BUILDERS[kind][1](writer)
