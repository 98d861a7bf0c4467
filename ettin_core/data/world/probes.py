"""Questions to a trained model whose answers the world knows.

Every text here is written by the code that writes the documents, from separate random streams, so it looks like training
text without being a part of it. A text with a gap is given as ``prefix + choice + suffix``. A choice begins with a space
and the prefix ends without one, as tokenizers of the GPT kind want it.
"""

import re
from dataclasses import dataclass
from itertools import count as counting
from typing import Literal

from ettin_core.data.world import templates
from ettin_core.data.world.choices import StreamChooser
from ettin_core.data.world.documents import (
    ENTAILMENT_LABELS,
    VERDICTS,
    Labels,
    entailment_document,
    person_document,
    story_start,
    topic_document,
    town_document,
    treasure_document,
)
from ettin_core.data.world.facts import PRONOUNS, Entity, Person
from ettin_core.data.world.grammar import BARE, PHRASE, RELATIVE, TWO_PHRASES, Writer, clause, pronoun_forms
from ettin_core.data.world.world import World

Frequency = Literal["repeated", "once"]

_SHAPES = {f"subject_verb_{shape}": shape for shape in (BARE, PHRASE, TWO_PHRASES, RELATIVE)}
PHENOMENA = (*_SHAPES, "pronoun_verb", "pronoun_possessive")
# Sentences about things which need no context.
_CLAUSE_SENTENCES = tuple(
    template
    for template in (
        *templates.STORY_MIDDLE,
        *templates.PERSON_FREE,
        *templates.TOWN_FREE,
        *templates.TREASURE_FREE,
    )
    if re.search(r"\{(past|present)\}", template) and not re.search(r"\{(?!\+|past|present)", template)
)
_PRONOUN_VERB = "the {occupation} thought that {they} {were} {+feeling}."
_PRONOUN_POSSESSIVE = "the {occupation} said that {they} had lost {their} {+item}."


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences that differ in one word; only ``good`` can occur in the world.

    ``distance`` counts the words between the word that differs and the one it agrees with. In phenomena with nouns in
    between, the nearest noun has the other number.
    """

    good: str
    bad: str
    phenomenon: str
    distance: int


@dataclass(frozen=True)
class FactItem:
    """A document with a gap where it states a fact, which it states nowhere else.

    Attributes:
        prefix, choices, suffix: the text is prefix + choice + suffix; choices are all values of the relation.
        answer: position of the true choice.
        frequency: whether the training split states the fact repeatedly, or in one document.
        subject, relation: what the fact is about.
        train_index: the one training document that states the fact; None for repeated facts.
    """

    prefix: str
    choices: tuple[str, ...]
    suffix: str
    answer: int
    frequency: Frequency
    subject: str
    relation: str
    train_index: int | None


@dataclass(frozen=True)
class PronounItem:
    """The start of a story with a gap at the first pronoun, with she, he and they in this order.

    A variant is prefix + slots[i] + suffixes[i]; a suffix differs where a verb or a second pronoun agrees.
    ``female``, ``male`` and ``neutral`` are the exact probabilities of the three variants given the occupation.
    """

    occupation: str
    prefix: str
    slots: tuple[str, str, str]
    suffixes: tuple[str, str, str]
    female: float
    male: float
    neutral: float

    @property
    def variants(self) -> tuple[str, str, str]:
        """The three texts."""
        she, he, they = (self.prefix + slot + suffix for slot, suffix in zip(self.slots, self.suffixes, strict=True))
        return she, he, they

    @property
    def suffix_is_shared(self) -> bool:
        """Whether nothing after the gap reveals its pronoun."""
        return len(set(self.suffixes)) == 1


@dataclass(frozen=True)
class LabelledItem:
    """A text to classify, and the same question as a continuation.

    ``text`` does not name its label. The world words the answer as prefix + choices[i] + suffix; ``prefix`` begins with the
    text, and choices are in the order of ``labels``.
    """

    text: str
    label: str
    labels: tuple[str, ...]
    prefix: str
    choices: tuple[str, ...]
    suffix: str

    @property
    def answer(self) -> int:
        """Position of the true label and choice."""
        return self.labels.index(self.label)


def agreement_pairs(world: World, count: int) -> list[MinimalPair]:
    """``count`` pairs, going round the phenomena."""
    return [_agreement_pair(world, PHENOMENA[index % len(PHENOMENA)], index) for index in range(count)]


def fact_items(world: World, count: int) -> list[FactItem]:
    """``count`` items, every second about a fact stated once (all repeated in a world without rare people).

    Facts stated once come in the order of the training documents. After all facts have been asked, they are asked
    again in other documents.

    Raises:
        ValueError: if the world has fewer than four values for a relation.
    """
    facts = world.facts
    repeated = StreamChooser("ettin-world", world.config.seed, "probe/facts").shuffled(
        facts.askable, len(facts.askable)
    )
    once = [(person, relation) for person in facts.rare_people for relation in person.facts]
    items = []
    for index in range(count):
        if once and index % 2:
            rare, relation = once[index // 2 % len(once)]
            train_index = world.rare_index(facts.rare_people.index(rare))
            items.append(_fact_item(world, rare, relation, index, "once", train_index))
        else:
            position = (index // 2 if once else index) % len(repeated)
            _, subject, relation = repeated[position]
            items.append(_fact_item(world, subject, relation, index, "repeated", None))
    return items


def pronoun_items(world: World, count: int) -> list[PronounItem]:
    """``count`` items, going round the occupations."""
    items = []
    for index in range(count):
        occupation = world.occupations[index % len(world.occupations)]
        start = story_start(_writer(world, "pronoun", index), occupation)
        before, slot, after = re.split(r" \{(\w+)\}", start.mention, maxsplit=1)
        forms = [pronoun_forms(pronoun) for pronoun in PRONOUNS]
        she, he, they = (" " + form[slot] for form in forms)
        after_she, after_he, after_they = (after.format(**form) for form in forms)
        items.append(
            PronounItem(
                occupation.name,
                f"{start.opening} {before[0].upper()}{before[1:]}",
                (she, he, they),
                (after_she, after_he, after_they),
                occupation.female,
                occupation.male,
                occupation.neutral,
            )
        )
    return items


def entailment_items(world: World, count: int) -> list[LabelledItem]:
    """Premise and claim without the verdict; chance is one third."""
    items = []
    for index in range(count):
        writer = _writer(world, "entailment", index)
        label = str(entailment_document(writer)["label"])
        text = " ".join(writer.sentences[:-1])
        choices = tuple(f" {VERDICTS[name]}" for name in ENTAILMENT_LABELS)
        items.append(LabelledItem(text, label, ENTAILMENT_LABELS, f"{text} Verdict:", choices, "."))
    return items


def topic_items(world: World, count: int) -> list[LabelledItem]:
    """Texts on a topic without the sentence that names it."""
    labels = tuple(world.facts.topics)
    ending, suffix = templates.TOPIC_ENDING.split(" {topic}")
    ending = ending[0].upper() + ending[1:]
    items = []
    for index in range(count):
        writer = _writer(world, "topic", index)
        label = str(topic_document(writer)["topic"])
        text = " ".join(sentence for sentence in writer.sentences if not sentence.startswith(ending))
        choices = tuple(f" {name}" for name in labels)
        items.append(LabelledItem(text, label, labels, f"{text} {ending}", choices, suffix))
    return items


def _writer(world: World, probe: str, *key: int) -> Writer:
    return world.writer(StreamChooser("ettin-world", world.config.seed, "probe", probe, *key))


def _agreement_pair(world: World, phenomenon: str, index: int) -> MinimalPair:
    writer = _writer(world, phenomenon, index)
    chooser = writer.chooser
    if phenomenon in _SHAPES:
        template = chooser.uniform(_CLAUSE_SENTENCES)
        tense = "past" if "{past}" in template else "present"
        # A bare clause has no noun in between that could attract.
        wanted = (_SHAPES[phenomenon], phenomenon != f"subject_verb_{BARE}")
        drawn = (clause(chooser, world.facts, writer.things, tense) for _ in counting())
        chosen = next(c for c in drawn if (c.shape, c.attracted) == wanted)
        wrong = f"{chosen.before} {chosen.wrong}{chosen.after}"
        frame = writer.fill(template, **{tense: "#"})
        good, bad = (frame.replace("#", text) for text in (chosen.text, wrong))
        distance = chosen.distance
    else:
        right = chooser.uniform(PRONOUNS)
        substitute = chooser.uniform([pronoun for pronoun in PRONOUNS if pronoun is not right])
        forms = wrong_forms = pronoun_forms(right)
        if phenomenon == "pronoun_verb":
            template, distance = _PRONOUN_VERB, 0
            wrong_forms = forms | {"were": "was" if right.plural else "were"}
        else:
            template, distance = _PRONOUN_POSSESSIVE, 2
            wrong_forms = forms | {"their": substitute.possessive}
        frame = writer.fill(template, they="{they}", their="{their}", were="{were}")
        good, bad = (frame.format(**table) for table in (forms, wrong_forms))
    return MinimalPair(good[0].upper() + good[1:], bad[0].upper() + bad[1:], phenomenon, distance)


def _write_about(writer: Writer, subject: Person | Entity, rare: bool) -> Labels:
    """A document about ``subject``."""
    if isinstance(subject, Person):
        return person_document(writer, subject, rare)
    return town_document(writer, subject) if "landmark" in subject.facts else treasure_document(writer, subject)


def _fact_item(
    world: World,
    subject: Person | Entity,
    relation: str,
    index: int,
    frequency: Frequency,
    train_index: int | None,
) -> FactItem:
    values = world.facts.words[relation]
    if len(values) < 4:
        raise ValueError(f"{relation}: {len(values)} values; give a world with words >= 4 and towns >= 4")
    value = subject.facts[relation]
    # Documents that leave the fact out, or state it twice, would not leave one gap.
    for attempt in counting():
        writer = _writer(world, "fact", index, attempt)
        _write_about(writer, subject, rare=frequency == "once")
        parts = re.split(rf" {value}\b", writer.text)
        if len(parts) == 2 and value not in "".join(parts).split():
            break
    prefix, suffix = parts
    choices = tuple(f" {choice}" for choice in values)
    return FactItem(prefix, choices, suffix, values.index(value), frequency, subject.name, relation, train_index)
