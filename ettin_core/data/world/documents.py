"""How each kind of document is written. A writer in, labels out; the text is in the writer.

Every function asks the writer's chooser for all it does not know from the facts, so the functions serve sampling,
enumeration and probes alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ettin_core.data.world import templates
from ettin_core.data.world.choices import Weighted
from ettin_core.data.world.facts import PRONOUNS, Entity, Occupation, Person, Pronoun
from ettin_core.data.world.grammar import SINGULAR, Writer, pronoun_forms

Labels = dict[str, object]

ENTAILMENT_LABELS = ("entailment", "contradiction", "neutral")
VERDICTS = dict(zip(ENTAILMENT_LABELS, ("true", "false", "unclear"), strict=True))
_BLANKS = {word: f"{{{word}}}" for word in pronoun_forms(PRONOUNS[0])}
_HALF = (True, False)
_NAME_OR_PRONOUN = Weighted((True, False), (1, 3))


def _some(writer: Writer) -> int:
    """How many free sentences: from half of the world's longest to the longest."""
    longest = writer.facts.config.longest
    return writer.chooser.uniform(range((longest + 1) // 2, longest + 1))


def person_document(writer: Writer, person: Person, rare: bool = False) -> Labels:
    """Facts about a person, each stated once; one may be repeated at the end unless the person is rare."""
    chooser = writer.chooser
    writer.bind(name=person.name, **person.facts)
    writer.bind_forms(person.pronoun)
    count = 2 if rare else min(_some(writer), len(person.facts))
    relations = chooser.shuffled(tuple(person.facts), count)
    for position, relation in enumerate(relations):
        if position == 0 or chooser.weighted(_NAME_OR_PRONOUN):
            writer.write(templates.PERSON[relation], subject=person.name, **SINGULAR)
        else:
            writer.write(templates.PERSON[relation], subject=person.pronoun.nominative)
        if position == 0:
            writer.write(templates.PERSON_FREE)
        elif rare or chooser.uniform(_HALF):
            writer.write(templates.PERSON_MET)
    if not rare and chooser.uniform(_HALF):
        short = templates.PERSON_SHORT[chooser.uniform(relations)]
        writer.append(writer.fill(chooser.uniform(templates.PERSON_AGAIN) % short))
    return {
        "person": person.name,
        "pronoun": person.pronoun.nominative,
        "facts": {relation: person.facts[relation] for relation in relations},
    }


def _write_facts(
    writer: Writer, subject: Entity, sentences: Mapping[str, Sequence[str]], slot: str, names: Sequence[str]
) -> None:
    """The facts of a town or treasure in random order: first by its name, then by any of ``names``."""
    for position, relation in enumerate(writer.chooser.shuffled(tuple(subject.facts), len(subject.facts))):
        name = writer.chooser.uniform(names) if position else names[0]
        writer.write(sentences[relation], **{slot: name})


def town_document(writer: Writer, town: Entity) -> Labels:
    """A town, what it is known for, and people who live there."""
    chooser = writer.chooser
    writer.bind(town=town.name, **town.facts)
    _write_facts(writer, town, templates.TOWN, "where", (town.name, "the town"))
    for _ in range(_some(writer)):
        template = chooser.uniform((*templates.TOWN_FREE, *templates.TOWN_RESIDENT))
        if template in templates.TOWN_RESIDENT:
            person = chooser.uniform(writer.facts.residents[town.name])
            # The home is said by the sentence itself.
            relation = chooser.uniform(("trade", "animals", "instrument", "food"))
            short = templates.PERSON_SHORT[relation]
            writer.append(writer.fill(template % short, **{"name": person.name, relation: person.facts[relation]}))
        else:
            writer.append(writer.fill(template))
    if chooser.uniform(_HALF):
        writer.append(writer.fill(templates.TOWN_AGAIN))
    return {"town": town.name, "facts": dict(town.facts)}


def treasure_document(writer: Writer, treasure: Entity) -> Labels:
    """An object, where it is and who made it."""
    name = f"the {treasure.name}"
    writer.bind(treasure=treasure.name, **treasure.facts)
    writer.bind(**writer.facts.town_facts[treasure.facts["town"]])
    _write_facts(writer, treasure, templates.TREASURE, "what", (name, "it"))
    for _ in range(_some(writer)):
        writer.write(templates.TREASURE_FREE)
    if writer.chooser.uniform(_HALF):
        writer.append(writer.fill(templates.TREASURE_AGAIN))
    return {"treasure": treasure.name, "facts": dict(treasure.facts)}


@dataclass(frozen=True)
class StoryStart:
    """The opening of a story and its first sentence with a pronoun, whose forms are still blank."""

    opening: str
    mention: str

    def first_sentence(self, pronoun: Pronoun) -> str:
        """The first sentence with a pronoun, in its forms."""
        sentence = self.mention.format(**pronoun_forms(pronoun))
        return sentence[0].upper() + sentence[1:]


def story_start(writer: Writer, occupation: Occupation) -> StoryStart:
    """Brings in the protagonist by occupation, without a cue to the pronoun."""
    writer.bind(occupation=occupation.name)
    writer.write(templates.STORY_OPENING)
    return StoryStart(writer.text, writer.fill(writer.chooser.uniform(templates.STORY_MENTION), **_BLANKS))


def story_document(writer: Writer) -> Labels:
    """A story about an unnamed protagonist, whose pronoun is drawn from the ratio of the occupation."""
    occupation = writer.chooser.uniform(writer.facts.occupations)
    start = story_start(writer, occupation)
    pronoun = writer.chooser.weighted(occupation.pronouns)
    writer.append(start.first_sentence(pronoun))
    writer.bind_forms(pronoun)
    for _ in range(_some(writer)):
        writer.write(templates.STORY_MIDDLE)
    writer.write(templates.STORY_ENDING)
    return {"occupation": occupation.name, "pronoun": pronoun.nominative}


def _asked(writer: Writer, question: str, answer: str) -> str:
    """Writes a question with its answer sentence; returns the question as written in the text."""
    question, answer = (part[0].upper() + part[1:] for part in (writer.fill(question), writer.fill(answer)))
    writer.append(f"Question: {question} Answer: {answer}")
    return question


def fact_questions(writer: Writer) -> Labels:
    """Questions on any facts of the world, which the text does not state before."""
    chooser = writer.chooser
    asked = []
    for _ in range(_some(writer)):
        kind, subject, relation = chooser.uniform(writer.facts.askable)
        questions, answer = templates.QUESTIONS[kind][relation]
        writer.bind(**{"name": subject.name, relation: subject.facts[relation]})
        asked.append((_asked(writer, chooser.uniform(questions), answer), subject.facts[relation]))
    return {"questions": tuple(asked)}


def scene_questions(writer: Writer) -> Labels:
    """A scene of two people, and two questions which it answers."""
    first, second = templates.SCENE
    writer.append(writer.fill(first))
    writer.write(templates.SCENE_FREE)
    writer.append(writer.fill(second))
    asked = []
    for question, sentence, answer in writer.chooser.shuffled(templates.SCENE_QUESTIONS, 2):
        asked.append((_asked(writer, question, sentence), writer.fill(answer)))
    return {"questions": tuple(asked)}


def entailment_document(writer: Writer) -> Labels:
    """A premise and a claim, with the verdict.

    The premise leaves out one of goods, colour, place and day. A claim on that part is neutral; one on another part
    repeats it (entailment) or changes it (contradiction). Every part is equally probable under every label, so the
    claim alone gives no information about the label.
    """
    chooser, facts = writer.chooser, writer.facts
    name = chooser.uniform(facts.strangers)
    left_out = chooser.uniform(tuple(templates.CLAIM))
    values = {
        part: chooser.uniform(tuple(facts.goods) if part == "goods" else facts.words[part])
        for part in templates.CLAIM
        if part != left_out
    }
    goods = chooser.uniform(facts.goods[values["goods"]]) if "goods" in values else "things"
    said = {"goods": goods} | {part: values.get(part, "") for part in ("colour", "place", "day")}
    premise = writer.fill("{name} {+brought} {+number}", name=name) + "".join(
        before + said[part] for part, before in templates.PREMISE_PARTS.items() if said[part]
    )
    premise += "."

    label = chooser.uniform(ENTAILMENT_LABELS)
    part = left_out if label == "neutral" else chooser.uniform(tuple(values))
    possible = tuple(facts.goods) if part == "goods" else facts.words[part]
    if label == "entailment":
        claimed = values[part]
    else:
        claimed = chooser.uniform([value for value in possible if value != values.get(part)])
    claim = writer.fill(chooser.uniform(templates.CLAIM[part]), **{"name": name, part: claimed})
    claim = claim[0].upper() + claim[1:]

    writer.append(f"Premise: {premise}")
    writer.write(templates.PREMISE_FREE)
    writer.write(templates.PREMISE_FREE)
    writer.append(f"Claim: {claim}")
    writer.append(f"Verdict: {VERDICTS[label]}.")
    return {"label": label, "premise": premise, "claim": claim}


def topic_document(writer: Writer) -> Labels:
    """Sentences in the words of one topic, which the last sentence may name."""
    topic = writer.chooser.uniform(tuple(writer.facts.topics))
    writer.bind(topic=topic)
    writer.speak_of(writer.facts.topics[topic])
    for _ in range(1 + _some(writer)):
        writer.write(templates.TOPIC_BODY)
    if writer.chooser.uniform(_HALF):
        writer.append(writer.fill(templates.TOPIC_ENDING))
    return {"topic": topic}


# Kinds with their share of the mixture in percent, and how a document of the kind is written.
BUILDERS: dict[str, tuple[int, Callable[[Writer], Labels]]] = {
    "person": (22, lambda writer: person_document(writer, writer.chooser.uniform(writer.facts.people))),
    "town": (8, lambda writer: town_document(writer, writer.chooser.uniform(writer.facts.towns))),
    "treasure": (8, lambda writer: treasure_document(writer, writer.chooser.uniform(writer.facts.treasures))),
    "story": (24, story_document),
    "question": (7, fact_questions),
    "scene": (7, scene_questions),
    "entailment": (12, entailment_document),
    "topic": (12, topic_document),
}
MIXTURE = Weighted(tuple(BUILDERS), tuple(share for share, _ in BUILDERS.values()))


def rare_document(writer: Writer) -> Labels:
    """A document of any rare person, all equally probable."""
    return person_document(writer, writer.chooser.uniform(writer.facts.rare_people), rare=True)
