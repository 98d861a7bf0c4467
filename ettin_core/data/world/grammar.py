"""How sentences are made: templates with slots, agreement of verbs, and a writer that remembers what it has said.

In a template, ``{place}`` is bound: the first use draws a word of the class *place* and later uses in the document
repeat it. ``{place2}`` is another word of the class than those bound before. ``{+place}`` is a fresh draw which is not
remembered. ``{past}`` and ``{present}`` are clauses about things in which the verb agrees with its subject over a
distance. ``{they}``, ``{them}``, ``{their}`` and verbs such as ``{were}`` follow the bound pronoun or subject.
Sentences get their capital letter when they are finished, so templates are written in lower case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ettin_core.data.world.choices import Chooser, Weighted
from ettin_core.data.world.facts import Facts, Pronoun, ThingWords, TopicWords

# Verbs of templates as (plural, singular).
VERBS = (
    ("live", "lives"), ("work", "works"), ("keep", "keeps"), ("love", "loves"), ("play", "plays"), ("own", "owns"),
    ("like", "likes"), ("cook", "cooks"), ("carry", "carries"), ("are", "is"), ("were", "was"), ("have", "has"),
)  # fmt: skip
_FORMS = tuple({plural: (singular, plural)[many] for plural, singular in VERBS} for many in (False, True))

_TENSES = {
    "past": ((("was", "were"), ""),),
    "present": ((("is", "are"), ""), (("seems", "seem"), ""), (("has", "have"), " been")),
}
BARE, PHRASE, TWO_PHRASES, RELATIVE = "bare", "phrase", "two_phrases", "relative"
_SHAPES = Weighted((BARE, PHRASE, TWO_PHRASES, RELATIVE), (2, 5, 2, 3))
_NUMBERS = (0, 1)


# Verbs whose subject is a name.
SINGULAR = _FORMS[False]


def pronoun_forms(pronoun: Pronoun) -> dict[str, str]:
    """Bindings of the pronoun slots, with the verbs that agree with it."""
    forms = {"they": pronoun.nominative, "them": pronoun.accusative, "their": pronoun.possessive}
    return forms | _FORMS[pronoun.plural]


@dataclass(frozen=True)
class Clause:
    """A clause ``before verb after``; ``wrong`` is the verb of the other number.

    Attributes:
        distance: words between the head noun and the verb.
        attracted: whether the noun nearest to the verb has the other number than the head.
        shape: what is between them: nothing, a phrase, two phrases, or a relative clause.
    """

    before: str
    verb: str
    wrong: str
    after: str
    distance: int
    attracted: bool
    shape: str

    @property
    def text(self) -> str:
        """The grammatical clause."""
        return f"{self.before} {self.verb}{self.after}"


def clause(chooser: Chooser, facts: Facts, words: ThingWords, tense: str) -> Clause:
    """A clause about things in the "past" or "present" tense."""
    number = chooser.uniform(_NUMBERS)
    before = f"the {chooser.uniform(words.nouns)[number]}"
    shape = chooser.weighted(_SHAPES)
    nearest = number
    between = ""
    if shape == RELATIVE:
        between = f" that the {chooser.uniform(facts.words['visitor'])} {chooser.uniform(facts.words['left'])}"
    for _ in range({BARE: 0, TWO_PHRASES: 2}.get(shape, 1)):
        preposition = chooser.uniform(facts.words["preposition"])
        described = f"{chooser.uniform(words.adjectives)} " if chooser.uniform((True, False)) else ""
        nearest = chooser.uniform(_NUMBERS)
        between += f" {preposition} the {described}{chooser.uniform(words.nouns)[nearest]}"
    verbs, auxiliary = chooser.uniform(_TENSES[tense])
    after = f"{auxiliary} {chooser.uniform(words.states)}"
    return Clause(
        before + between, verbs[number], verbs[1 - number], after, len(between.split()), nearest != number, shape
    )


@dataclass(frozen=True)
class _Slot:
    literal: str
    name: str
    word_class: str
    fresh: bool


@cache
def _slots(template: str) -> tuple[tuple[_Slot, ...], str]:
    """The slots of a template with the literal text before each, and the text after the last."""
    *pairs, rest = re.split(r"\{(\+?\w+)\}", template)
    slots = tuple(
        _Slot(literal, name.lstrip("+"), name.lstrip("+").rstrip("0123456789"), name.startswith("+"))
        for literal, name in zip(pairs[::2], pairs[1::2], strict=True)
    )
    return slots, rest


class Writer:
    """Writes one document, sentence by sentence, and keeps what has been bound."""

    def __init__(self, chooser: Chooser, facts: Facts) -> None:
        self.chooser = chooser
        self.facts = facts
        self.bound: dict[str, str] = {}
        self.sentences: list[str] = []
        self.things = facts.things
        self.words: Mapping[str, tuple[str, ...]] = facts.words

    @property
    def text(self) -> str:
        """The sentences so far, one space apart."""
        return " ".join(self.sentences)

    def bind(self, **bindings: str) -> None:
        """Fix the text of slots."""
        self.bound.update(bindings)

    def bind_forms(self, pronoun: Pronoun) -> None:
        """Let pronoun slots and verbs follow ``pronoun``."""
        self.bound.update(pronoun_forms(pronoun))

    def speak_of(self, topic: TopicWords) -> None:
        """Take the words of clauses and slots from a topic."""
        self.things, self.words = topic.things, topic.words

    def fill(self, template: str, **local: str) -> str:
        """The template with its slots filled; ``local`` bindings hold for this template only."""
        slots, rest = _slots(template)
        parts = []
        for slot in slots:
            parts.append(slot.literal)
            parts.append(self._word(slot, local))
        parts.append(rest)
        return "".join(parts)

    def write(self, templates: Sequence[str], **local: str) -> None:
        """Append a sentence made from one of the templates, all equally probable."""
        self.append(self.fill(self.chooser.uniform(templates), **local))

    def append(self, sentence: str) -> None:
        """Append a finished sentence, giving it its capital letter."""
        self.sentences.append(sentence[0].upper() + sentence[1:])

    def _word(self, slot: _Slot, local: Mapping[str, str]) -> str:
        if slot.fresh:
            return self.chooser.uniform(self.words[slot.word_class])
        word = local.get(slot.name) or self.bound.get(slot.name)
        if word is not None:
            return word
        if slot.name in ("past", "present"):
            return clause(self.chooser, self.facts, self.things, slot.name).text
        used = [self.bound.get(slot.word_class + digit) for digit in ("", "2")]
        self.bound[slot.name] = self.chooser.uniform([w for w in self.words[slot.word_class] if w not in used])
        return self.bound[slot.name]
