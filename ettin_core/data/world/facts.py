"""What is true in the world: who lives where and does what, and the pronoun ratio of every occupation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from ettin_core.data.world.choices import StreamChooser, Weighted
from ettin_core.data.world.lexicon import (
    CLASSES,
    FIRST_NAMES,
    GOODS,
    NAMES,
    PRONOUN_PERCENTAGES,
    SURNAMES,
    THINGS,
    TOPICS,
    TREASURES,
)

Value = TypeVar("Value")

PERSON_RELATIONS = ("town", "trade", "animals", "instrument", "food")
TOWN_RELATIONS = ("landmark", "product")
TREASURE_RELATIONS = ("town", "trade")

# Classes of which one sentence pair or scene needs two different words.
_PAIRED = frozenset({"occupation", "colour", "place", "item", "day"})

# What can be asked for: (least, most) of every field of the configuration.
_RANGES = {
    "seed": (0, 2**63 - 1),
    "people": (1, len(NAMES)),
    "towns": (1, len(CLASSES["town"])),
    "treasures": (1, len(TREASURES)),
    "occupations": (2, len(CLASSES["occupation"])),
    "rare_people": (0, len(FIRST_NAMES) * len(SURNAMES) // 2),
    "rare_every": (2, 10**9),
    "words": (1, 24),
    "longest": (1, 8),
}


@dataclass(frozen=True)
class WorldConfig:
    """Size of a world. Two equal configurations are the same world, to the byte.

    Attributes:
        seed: decides every fact and every document.
        people: people whose facts repeat; five facts and a pronoun each.
        towns: towns with two facts each; a person lives in one of them.
        treasures: objects with two facts each.
        occupations: occupations of unnamed protagonists, each with its pronoun ratio.
        rare_people: people with two facts each, stated in exactly one training document.
        rare_every: training documents from one rare document to the next; the last has the index
            ``rare_people * rare_every - 1``.
        words: most words of any class; small values make a world whose documents can be enumerated.
        longest: most free sentences in a document (with small additions by kind).

    Raises:
        ValueError: if a field is not an integer in its range, or towns outnumber people.
    """

    seed: int = 0
    people: int = 48
    towns: int = 12
    treasures: int = 12
    occupations: int = 24
    rare_people: int = 200
    rare_every: int = 200
    words: int = 24
    longest: int = 5

    def __post_init__(self) -> None:
        for item in fields(self):
            value, (least, most) = getattr(self, item.name), _RANGES[item.name]
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{item.name}={value!r}: give an integer from {least} to {most}")
        if self.towns > self.people:
            raise ValueError(f"towns={self.towns}: every town needs a resident, give at most people={self.people}")


@dataclass(frozen=True)
class Pronoun:
    """The forms of a third-person pronoun and whether it takes a plural verb."""

    nominative: str
    accusative: str
    possessive: str
    plural: bool


SHE = Pronoun("she", "her", "her", plural=False)
HE = Pronoun("he", "him", "his", plural=False)
THEY = Pronoun("they", "them", "their", plural=True)
PRONOUNS = (SHE, HE, THEY)
PRONOUN_MIX = (SHE, SHE, HE, HE, THEY)  # of named people


@dataclass(frozen=True)
class Occupation:
    """An occupation and the exact probabilities (sum 1) of the pronoun of a protagonist introduced by it."""

    name: str
    female: float
    male: float
    neutral: float
    pronouns: Weighted[Pronoun]


@dataclass(frozen=True)
class Person:
    """A named person; ``facts`` maps relations to values. A rare person has two of the five relations."""

    name: str
    pronoun: Pronoun
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Entity:
    """A town or a treasure with its facts."""

    name: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class ThingWords:
    """The words of clauses about things: nouns as (singular, plural), adjectives before and states after the verb."""

    nouns: Sequence[tuple[str, str]]
    adjectives: Sequence[str]
    states: Sequence[str]


@dataclass(frozen=True)
class TopicWords:
    """The words of texts on one topic: of their clauses, and of all their slots."""

    things: ThingWords
    words: Mapping[str, tuple[str, ...]]


class Facts:
    """All facts of a configuration, and the words its documents may use.

    The pronoun ratios of ``occupations`` are shown by stories about unnamed protagonists only. Named people have
    trades, which are other words, so their fixed pronouns do not disturb those ratios.
    """

    def __init__(self, config: WorldConfig) -> None:
        most = config.words
        self.config = config
        self.words = _words(config)
        self.things = ThingWords(THINGS[:most], self.words["adjective"], self.words["state"])
        self.topics = _topics(self.words, most)
        self.goods = {category: goods[:most] for category, goods in list(GOODS.items())[: max(most, 2)]}

        # One stream serves all draws, so their order is part of the world.
        chooser = StreamChooser("ettin-world", config.seed, "facts")
        self.people = self._people(chooser)
        self.towns = self._entities(chooser, self.words["town"], TOWN_RELATIONS)
        self.treasures = self._entities(chooser, TREASURES[: config.treasures], TREASURE_RELATIONS)
        self.town_facts = {town.name: town.facts for town in self.towns}
        self.residents = {
            town: tuple(person for person in self.people if person.facts["town"] == town) for town in self.words["town"]
        }
        self.occupations = self._occupations(chooser)
        # Everything that can be asked: kind of entity, entity, relation.
        self.askable: tuple[tuple[str, Person | Entity, str], ...] = tuple(
            (kind, entity, relation)
            for kind, entities in (("person", self.people), ("town", self.towns), ("treasure", self.treasures))
            for entity in entities
            for relation in entity.facts
        )
        full_names = tuple(f"{first} {last}" for first in FIRST_NAMES for last in SURNAMES)
        rare_names = chooser.shuffled(full_names, config.rare_people)
        self.rare_people = tuple(self._rare_person(chooser, name) for name in rare_names)
        taken = frozenset(rare_names)
        # Strangers give their names to sentence pairs. The parts of a rare name are thus ordinary words of the world,
        # while the whole name occurs in one training document.
        self.strangers = tuple(name for name in full_names if name not in taken)[: 2 if most == 1 else None]

    def _people(self, chooser: StreamChooser) -> tuple[Person, ...]:
        count = self.config.people
        names = chooser.shuffled(NAMES, count)
        columns = {relation: _cycled(chooser, self.words[relation], count) for relation in PERSON_RELATIONS}
        pronouns = _cycled(chooser, PRONOUN_MIX, count)
        return tuple(
            Person(name, pronouns[i], {r: columns[r][i] for r in PERSON_RELATIONS}) for i, name in enumerate(names)
        )

    def _entities(
        self, chooser: StreamChooser, names: tuple[str, ...], relations: tuple[str, ...]
    ) -> tuple[Entity, ...]:
        return tuple(Entity(name, {r: chooser.uniform(self.words[r]) for r in relations}) for name in names)

    def _occupations(self, chooser: StreamChooser) -> tuple[Occupation, ...]:
        rows = chooser.shuffled(PRONOUN_PERCENTAGES, self.config.occupations)
        return tuple(
            Occupation(name, row[0] / 100, row[1] / 100, row[2] / 100, Weighted(PRONOUNS, row))
            for name, row in zip(self.words["occupation"], rows, strict=True)
        )

    def _rare_person(self, chooser: StreamChooser, name: str) -> Person:
        pronoun = chooser.uniform(PRONOUN_MIX)
        relations = chooser.shuffled(PERSON_RELATIONS, 2)
        return Person(name, pronoun, {r: chooser.uniform(self.words[r]) for r in relations})


def _words(config: WorldConfig) -> dict[str, tuple[str, ...]]:
    """The words of each class, cut to the size of the world."""
    limits = {"town": config.towns, "occupation": config.occupations}
    words = {}
    for name, values in CLASSES.items():
        limit = limits.get(name, config.words)
        words[name] = values[: max(limit, 2) if name in _PAIRED else limit]
    return words | {"thing": tuple(singular for singular, _ in THINGS[: config.words])}


def _topics(words: Mapping[str, tuple[str, ...]], most: int) -> dict[str, TopicWords]:
    """The words of each topic, at most `most` of a kind."""
    return {
        topic.name: TopicWords(
            ThingWords(topic.nouns[:most], topic.adjectives[:most], topic.adjectives[:most]),
            {
                **words,
                "noun": tuple(singular for singular, _ in topic.nouns[:most]),
                "nouns": tuple(plural for _, plural in topic.nouns[:most]),
                "verb": topic.verbs[:most],
                "quality": topic.adjectives[:most],
            },
        )
        for topic in TOPICS[: max(most, 2)]
    }


def _cycled(chooser: StreamChooser, options: tuple[Value, ...], count: int) -> list[Value]:
    """Every option about equally often, in random order."""
    order = chooser.shuffled(options, len(options))
    return chooser.shuffled([order[i % len(order)] for i in range(count)], count)
