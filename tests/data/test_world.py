"""The world's promises: the same bytes everywhere, exact probabilities, and truths that its texts keep."""

import hashlib
import math
import pickle
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import pytest

from ettin_core.data.world import (
    World,
    WorldConfig,
    WorldDocument,
    agreement_pairs,
    entailment_items,
    fact_items,
    pronoun_items,
    topic_items,
)
from ettin_core.data.world.choices import Chooser, StreamChooser, Weighted, outcomes
from ettin_core.data.world.documents import (
    BUILDERS,
    MIXTURE,
    VERDICTS,
    entailment_document,
    person_document,
    rare_document,
)
from ettin_core.data.world.grammar import clause
from ettin_core.data.world.lexicon import CLASSES, FIRST_NAMES, GOODS, NAMES, SURNAMES, THINGS, TOPICS, TREASURES
from ettin_core.data.world.probes import PHENOMENA

FIRST_200_DOCUMENTS = "fc3d73ef362f07e8eb51953c3b00220aa736e8d4a9ffddf35273ff0a8e0b2fd9"
WORDS_OF = {"she": {"she", "her"}, "he": {"he", "him", "his"}, "they": {"they", "them", "their"}}
PRONOUN_WORDS = set().union(*WORDS_OF.values())
# So small that its documents can be counted.
TINY = WorldConfig(people=2, towns=2, treasures=1, occupations=2, rare_people=1, rare_every=10, words=1, longest=1)


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig())


@pytest.fixture(scope="module")
def train(world: World) -> list[WorldDocument]:
    return list(world.documents("train", 12_000))


@cache
def enumerated(kind: str, config: WorldConfig = TINY) -> list[tuple[str, float]]:
    """All documents of a kind with their log-probability given the kind."""
    world = World(config)
    build = rare_document if kind == "rare" else BUILDERS[kind][1]

    def text(chooser: Chooser) -> str:
        writer = world.writer(chooser)
        build(writer)
        return writer.text

    return list(outcomes(text))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


# The stream and the same bytes everywhere


def test_the_first_documents_have_these_bytes(world: World) -> None:
    text = "\n".join(f"{d.kind}\t{d.text}" for d in world.documents("train", 200))
    assert hashlib.sha256(text.encode()).hexdigest() == FIRST_200_DOCUMENTS


def test_a_document_depends_on_configuration_split_and_index_only(world: World) -> None:
    forwards = [world.document(split, index) for split in ("train", "test") for index in range(250)]
    second = pickle.loads(pickle.dumps(World(WorldConfig())))
    backwards = [second.document(split, index) for split in ("test", "train") for index in reversed(range(250))]
    assert forwards == backwards[::-1]
    assert list(world.documents("train", 20, start=190)) == forwards[190:210]


def test_splits_and_seeds_differ(world: World) -> None:
    second = World(WorldConfig(seed=1))
    texts = [{d.text for d in w.documents(s, 500)} for w in (world, second) for s in ("train", "validation", "test")]
    for position, some in enumerate(texts):
        for others in texts[position + 1 :]:
            assert len(some & others) < 5


def test_choices_have_their_probabilities() -> None:
    chooser = StreamChooser("frequencies")
    table = Weighted("abc", (1, 4, 15))
    counts = Counter(chooser.uniform(range(7)) for _ in range(20_000))
    weighted = Counter(chooser.weighted(table) for _ in range(20_000))
    expected = dict.fromkeys(range(7), 1 / 7) | {"a": 0.05, "b": 0.2, "c": 0.75}
    for option, probability in expected.items():
        deviation = math.sqrt(20_000 * probability * (1 - probability))
        assert abs((counts | weighted)[option] - 20_000 * probability) < 4.5 * deviation
    paid = sum(n * math.log(expected[option]) for option, n in (counts | weighted).items())
    assert chooser.log_probability == pytest.approx(paid, rel=1e-9)


# Exact probabilities


@pytest.mark.parametrize("kind", [*BUILDERS, "rare"])
def test_every_text_has_one_derivation_and_probabilities_sum_to_one(kind: str) -> None:
    derivations = enumerated(kind)
    assert len({text for text, _ in derivations}) == len(derivations)
    assert math.fsum(math.exp(p) for _, p in derivations) == pytest.approx(1, abs=1e-9)


def test_longer_texts_too() -> None:
    derivations = enumerated("question", WorldConfig(**(vars(TINY) | {"longest": 2})))
    assert len({text for text, _ in derivations}) == len(derivations) > 1000
    world = World(WorldConfig(**(vars(TINY) | {"words": 2})))
    clauses = list(outcomes(lambda chooser: clause(chooser, world.facts, world.writer(chooser).things, "past").text))
    assert len({text for text, _ in clauses}) == len(clauses) > 5000
    assert math.fsum(math.exp(p) for _, p in clauses) == pytest.approx(1, abs=1e-9)


def test_kinds_share_no_text() -> None:
    texts = [{text for text, _ in enumerated(kind)} for kind in [*BUILDERS, "rare"]]
    assert len(set().union(*texts)) == sum(map(len, texts))


def test_documents_state_the_enumerated_probability() -> None:
    world = World(TINY)
    tables = {kind: dict(enumerated(kind)) for kind in [*BUILDERS, "rare"]}
    shares = dict(zip(MIXTURE.options, MIXTURE.log_probabilities, strict=True)) | {"rare": 0.0}
    seen = set()
    for document in world.documents("train", 300):
        expected = tables[document.kind][document.text] + shares[document.kind]
        assert document.log_probability == pytest.approx(expected, abs=1e-9)
        seen.add(document.kind)
    assert seen == set(tables)


def test_rare_documents_state_the_marginal_over_people() -> None:
    world = World(WorldConfig(rare_people=50, rare_every=3))
    writer = world.writer(StreamChooser("ettin-world", 0, "train", 5))
    person_document(writer, world.facts.rare_people[1], rare=True)
    document = world.document("train", 5)
    assert (document.kind, document.text) == ("rare", writer.text)
    assert document.log_probability == pytest.approx(writer.chooser.log_probability - math.log(50))


@pytest.mark.parametrize("kind", ["story", "entailment"])
def test_mean_surprisal_is_the_exact_entropy(kind: str) -> None:
    probabilities = [p for _, p in enumerated(kind)]
    entropy = -math.fsum(math.exp(p) * p for p in probabilities)
    variance = math.fsum(math.exp(p) * (p + entropy) ** 2 for p in probabilities)
    world = World(TINY)
    choosers = [StreamChooser("entropy", kind, index) for index in range(4000)]
    for chooser in choosers:
        BUILDERS[kind][1](world.writer(chooser))
    mean = -sum(chooser.log_probability for chooser in choosers) / len(choosers)
    assert abs(mean - entropy) < 4.5 * math.sqrt(variance / len(choosers))


def test_entropy_is_moderate(world: World, train: list[WorldDocument]) -> None:
    bits = -sum(d.log_probability for d in train) / math.log(2)
    assert 1.2 < bits / sum(len(d.text.split()) for d in train) < 2.2
    characters = sum(len(d.text) for d in train)
    assert world.expected_entropy(3000) == pytest.approx(bits * math.log(2) / characters, rel=0.03)


def test_texts_are_short_and_plain(train: list[WorldDocument]) -> None:
    lengths = [len(d.text.split()) for d in train]
    assert 40 < sum(lengths) / len(lengths) < 70
    assert min(lengths) >= 15 and max(lengths) <= 120
    for document in train:
        assert not re.search(r"\ba [aeiou]|[{}#]|  |\b(\w+) \1\b", document.text, re.IGNORECASE), document.text
        assert re.fullmatch(r"([A-Z][^.?]*[.?] )*[A-Z][^.?]*\.", document.text), document.text


def test_a_word_belongs_to_one_class() -> None:
    classes = [*CLASSES.values(), NAMES, FIRST_NAMES, SURNAMES, tuple(GOODS), *GOODS.values()]
    classes.append(tuple(word for name in TREASURES for word in name.split()))
    classes += [tuple(noun[number] for noun in THINGS) for number in (0, 1)]
    for topic in TOPICS:
        classes += [tuple(noun[number] for noun in topic.nouns) for number in (0, 1)] + [topic.verbs, topic.adjectives]
    counts = Counter(word.lower() for words_of_class in classes for word in words_of_class)
    assert [word for word, count in counts.items() if count > 1] == []


# Pronouns


def test_pronouns_follow_the_stated_ratios(world: World, train: list[WorldDocument]) -> None:
    stories = [d for d in train if d.kind == "story"]
    counts = Counter((d.labels["occupation"], d.labels["pronoun"]) for d in stories)
    total = Counter(d.labels["occupation"] for d in stories)
    for occupation in world.occupations:
        stated = {"she": occupation.female, "he": occupation.male, "they": occupation.neutral}
        assert sum(stated.values()) == pytest.approx(1)
        for pronoun, probability in stated.items():
            n = total[occupation.name]
            deviation = math.sqrt(n * probability * (1 - probability))
            assert abs(counts[occupation.name, pronoun] - n * probability) <= 4.5 * deviation + 1
    ratios = [occupation.female for occupation in world.occupations]
    assert min(ratios) == 0.05 and max(ratios) == 0.95


def test_stories_keep_their_pronoun_and_give_no_cue_before_it(train: list[WorldDocument]) -> None:
    forms_seen: dict[str, set[str]] = defaultdict(set)
    for document in train:
        if document.kind != "story":
            continue
        pronoun = str(document.labels["pronoun"])
        used = PRONOUN_WORDS & set(words(document.text))
        assert used <= WORDS_OF[pronoun], document.text
        forms_seen[pronoun] |= used
        opening = document.text.split(".")[0]
        assert not PRONOUN_WORDS & set(words(opening))
        assert str(document.labels["occupation"]) in opening
    assert forms_seen == WORDS_OF


def test_named_people_keep_their_pronoun(world: World, train: list[WorldDocument]) -> None:
    people = {person.name: person for person in (*world.facts.people, *world.facts.rare_people)}
    for document in train:
        if document.kind in ("person", "rare"):
            pronoun = people[str(document.labels["person"])].pronoun.nominative
            assert document.labels["pronoun"] == pronoun
            assert PRONOUN_WORDS & set(words(document.text)) <= WORDS_OF[pronoun]


def test_verbs_agree_with_pronouns(train: list[WorldDocument]) -> None:
    wrong = re.compile(
        r"\b(they (was|has|is|lives|keeps|works|plays|owns|likes|cooks|loves)"
        r"|(s?he) (were|have|are|live|keep|work|play|own|like|cook|love))\b",
        re.IGNORECASE,
    )
    for document in train:
        assert not wrong.search(document.text), document.text


# Agreement over a distance


def test_verbs_agree_with_distant_subjects(train: list[WorldDocument]) -> None:
    nouns = [*THINGS, *(noun for topic in TOPICS for noun in topic.nouns)]
    numbers = {form: number for noun in nouns for number, form in enumerate(noun)}
    verbs = {"was": 0, "is": 0, "seems": 0, "has": 0, "were": 1, "are": 1, "seem": 1, "have": 1}
    attracted = 0
    for document in train:
        for sentence in re.split(r"(?<=\.) ", document.text):
            match = re.search(r"\b[Tt]he (\w+) ?([\w ]*?) ?\b(\w+)( been)? \w+\.$", sentence)
            if not match or match[1] not in numbers or match[3] not in verbs or " and " in match[2]:
                continue
            assert verbs[match[3]] == numbers[match[1]], sentence
            between = [numbers[word] for word in match[2].split() if word in numbers]
            attracted += bool(between) and between[-1] != numbers[match[1]]
    # Frequent enough to be learnt: in one of five documents a noun in between would mislead.
    assert attracted > len(train) / 5


def test_agreement_pairs_differ_in_the_verb(world: World) -> None:
    pairs = agreement_pairs(world, 600)
    assert pairs == agreement_pairs(World(WorldConfig()), 600)
    assert Counter(pair.phenomenon for pair in pairs) == dict.fromkeys(PHENOMENA, 100)
    swaps = {"was": "were", "is": "are", "seems": "seem", "has": "have"}
    swaps |= {plural: singular for singular, plural in swaps.items()}
    for pair in pairs:
        good, bad = words(pair.good), words(pair.bad)
        differing = [position for position in range(len(good)) if good[position] != bad[position]]
        assert len(good) == len(bad) and len(differing) == 1
        position = differing[0]
        if pair.phenomenon == "pronoun_possessive":
            assert {good[position], bad[position]} < {"her", "his", "their"}
            assert good[position] in WORDS_OF[good[position - 1 - pair.distance]]
        else:
            assert swaps[good[position]] == bad[position]
            subject = good[position - 1 - pair.distance]
            plural = subject == "they" or subject in {plural for _, plural in THINGS}
            assert plural == (good[position] in ("were", "are", "seem", "have"))
    assert max(pair.distance for pair in pairs) >= 7


# Facts


def test_rare_facts_are_stated_once_in_train_and_never_elsewhere() -> None:
    world = World(WorldConfig(rare_people=25, rare_every=40))
    texts = {split: list(world.documents(split, 1500)) for split in ("train", "validation")}
    for number, person in enumerate(world.facts.rare_people):
        assert [d.id for d in texts["train"] if person.name in d.text] == [f"train/{world.rare_index(number)}"]
        assert not any(person.name in d.text for d in texts["validation"])
        document = world.document("train", world.rare_index(number))
        assert document.kind == "rare" and document.labels["facts"] == dict(person.facts)
        assert all(words(document.text).count(value.lower()) == 1 for value in person.facts.values())
    assert sum(d.kind == "rare" for d in texts["train"]) == 25
    with pytest.raises(IndexError, match="25 rare people"):
        world.rare_index(25)


def test_common_facts_repeat(world: World, train: list[WorldDocument]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for document in train:
        if document.kind == "person":
            for relation, value in dict(document.labels["facts"]).items():  # type: ignore[call-overload]
                counts[str(document.labels["person"]), relation] += 1
                assert value.lower() in words(document.text)
    assert set(counts) == {(p.name, relation) for p in world.facts.people for relation in p.facts}
    assert min(counts.values()) > 20


def test_fact_items_have_the_true_answer_and_one_gap(world: World) -> None:
    facts = world.facts
    truth = {person.name: person.facts for person in (*facts.people, *facts.rare_people)}
    truth |= {subject.name: subject.facts for subject in (*facts.towns, *facts.treasures)}
    items = fact_items(world, 500)
    assert items == fact_items(World(WorldConfig()), 500)
    assert Counter(item.frequency for item in items) == {"repeated": 250, "once": 250}
    for item in items:
        answer = item.choices[item.answer]
        assert answer == f" {truth[item.subject][item.relation]}"
        assert len(set(item.choices)) == len(item.choices) >= 4
        assert item.prefix and not item.prefix.endswith(" ")
        text = item.prefix + answer + item.suffix
        assert answer.strip().lower() not in words(item.prefix + item.suffix)
        assert item.subject.lower() in text.lower() and text.endswith(".")
        if item.train_index is not None:
            assert item.subject in world.document("train", item.train_index).text
        assert (item.train_index is None) == (item.frequency == "repeated")


def test_fact_items_need_four_values() -> None:
    items = fact_items(World(WorldConfig(people=4, towns=4, words=4, rare_people=0)), 40)
    assert {(len(item.choices), item.frequency) for item in items} == {(4, "repeated")}
    with pytest.raises(ValueError, match="words >= 4"):
        fact_items(World(TINY), 2)


def test_questions_have_true_answers(world: World, train: list[WorldDocument]) -> None:
    values = {(subject.name, subject.facts[relation]) for _, subject, relation in world.facts.askable}
    asked = 0
    for document in train:
        if document.kind not in ("question", "scene"):
            continue
        for question, answer in document.labels["questions"]:  # type: ignore[attr-defined]
            sentence = re.search(re.escape(f"Question: {question} Answer: ") + r"([^.]*)\.", document.text)
            assert sentence and answer.lower() in words(sentence[1])
            if document.kind == "question":
                assert any(name in question and value == answer for name, value in values)
            else:
                scene = document.text.split(" Question:")[0]
                thing = re.search(r"the (\w+)\?", question)
                sentences = [s for s in re.split(r"(?<=\.) ", scene) if thing and f" {thing[1]} at the " in s]
                assert len(sentences) == 1 and answer in sentences[0]
            asked += 1
    assert asked > 1000


# Labelled texts


def test_the_claim_alone_gives_nothing_away_about_the_label() -> None:
    world = World(TINY)
    mass: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for labels, log_probability in outcomes(lambda chooser: entailment_document(world.writer(chooser))):
        mass[str(labels["claim"])][str(labels["label"])] += math.exp(log_probability)
    for by_label in mass.values():
        assert set(by_label) == set(VERDICTS)
        assert max(by_label.values()) == pytest.approx(min(by_label.values()), abs=1e-9)


def test_labels_follow_from_premise_and_claim(train: list[WorldDocument]) -> None:
    for document in train:
        if document.kind != "entailment":
            continue
        premise, claim = (words(str(document.labels[part])) for part in ("premise", "claim"))
        value = claim[-1]
        kinds = [*GOODS], CLASSES["colour"], CLASSES["place"], [day.lower() for day in CLASSES["day"]]
        same_kind = next(options for options in kinds if value in options)
        said = {category for category, goods in GOODS.items() if set(goods) & set(premise)} | set(premise)
        stated = [option for option in same_kind if option in said]
        label = "neutral" if not stated else "entailment" if stated == [value] else "contradiction"
        assert document.labels["label"] == label, document.text
        assert document.text.endswith(f"Verdict: {VERDICTS[label]}.")


@pytest.mark.parametrize("make", [entailment_items, topic_items])
def test_labelled_items_hide_their_label(world: World, make: Callable[..., list]) -> None:  # type: ignore[type-arg]
    items = make(world, 400)
    assert items == make(World(WorldConfig()), 400)
    counts = Counter(item.label for item in items)
    assert set(counts) == set(items[0].labels)
    assert min(counts.values()) > 0.6 * 400 / len(counts)
    for item in items:
        assert item.prefix.startswith(item.text) and not item.prefix.endswith(" ")
        assert not {choice.strip() for choice in item.choices} & set(words(item.text))
        assert item.labels[item.answer] == item.label


def test_pronoun_items_state_the_ratio_and_agree(world: World) -> None:
    items = pronoun_items(world, 480)
    assert items == pronoun_items(World(WorldConfig()), 480)
    occupations = {occupation.name: occupation for occupation in world.occupations}
    for item in items:
        stated = occupations[item.occupation]
        assert (item.female, item.male, item.neutral) == (stated.female, stated.male, stated.neutral)
        assert not PRONOUN_WORDS & set(words(item.prefix))
        for pronoun, slot, text in zip(("she", "he", "they"), item.slots, item.variants, strict=True):
            assert slot.strip() in WORDS_OF[pronoun] and slot.startswith(" ")
            assert PRONOUN_WORDS & set(words(text)) <= WORDS_OF[pronoun]
            assert ("they were" in text) <= (pronoun == "they") and "they was" not in text
    assert sum(item.suffix_is_shared for item in items) > 240


# Errors


@pytest.mark.parametrize(
    ("field", "value"), [("people", 0), ("words", 99), ("towns", 2.0), ("seed", -1), ("longest", True), ("towns", 16)]
)
def test_configurations_are_checked(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}={value}.*give"):
        WorldConfig(**{"people": 10, "towns": 4, field: value})  # type: ignore[arg-type]


def test_unknown_documents_are_refused(world: World) -> None:
    for split, index in (("dev", 0), ("train", -1)):
        with pytest.raises(ValueError, match="give one of"):
            world.document(split, index)
    with pytest.raises(ValueError, match="count=0"):
        world.expected_entropy(0)
