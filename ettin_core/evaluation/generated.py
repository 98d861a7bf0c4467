"""Evaluation sets that the generator of `world` can write: small, offline, the same bytes for the same seed.

Those of a name of their own ask what the world knows. Those under the name of a published set have its form and none of its
content: they let every protocol run, and their rows are named `world...`, so that no number of them passes for a published one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ettin_core.data.world.documents import ENTAILMENT_LABELS
from ettin_core.data.world.probes import agreement_pairs, fact_items, pronoun_items, topic_items
from ettin_core.data.world.world import World, WorldDocument
from ettin_core.foundation.randomness import derive

Row = dict[str, Any]
SPLITS = ("train", "train", "train", "dev", "test")  # of five rows that follow each other
PRONOUNS = {"female": "she", "male": "he", "neutral": "they"}
CANDIDATES = 10  # documents of a query to be ranked
ABOUT = ("person", "town", "treasure")  # kinds of documents that are about something with a name


@dataclass(frozen=True)
class GeneratedSet:
    """A file of rows, its path in the folder of evaluation sets, and the published set whose form it has (None: its own)."""

    file: str
    rows: Callable[[World, int], Iterator[Row]]
    form_of: str | None = None


def _split(number: int) -> str:
    return SPLITS[number % len(SPLITS)]


def topics(world: World, count: int) -> Iterator[Row]:
    """Texts to classify by their topic."""
    for number, item in enumerate(topic_items(world, count)):
        label = item.labels.index(item.label)
        yield {"id": f"world.{number}", "split": _split(number), "text": item.text, "label": label}


def entailment(world: World, count: int) -> Iterator[Row]:
    """Pairs of a premise and a claim."""
    for number, document in enumerate(_documents(world, ("entailment",), count)):
        texts = {"text1": document.labels["premise"], "text2": document.labels["claim"]}
        label = ENTAILMENT_LABELS.index(str(document.labels["label"]))
        yield {"id": f"world.{number}", "split": _split(number), **texts, "label": label}


def overlap(world: World, count: int) -> Iterator[Row]:
    """Pairs of sentences with the share of their words that they have in common, times five."""
    sentences = [pair.good for pair in agreement_pairs(world, count)]
    for number, text in enumerate(sentences):
        words = text.rstrip(".").split()
        kept = derive(0, "overlap", number) % (len(words) + 1)
        second = " ".join([*words[:kept], *sentences[number - 1].rstrip(".").split()[kept:]]) + "."
        left, right = set(words), set(second.rstrip(".").split())
        score = 5 * len(left & right) / len(left | right)
        yield {"id": f"world.{number}", "split": _split(number), "text1": text, "text2": second, "score": score}


def names(world: World, count: int) -> Iterator[Row]:
    """Words, of which those that name what a document is about are tagged."""
    for number, document in enumerate(_documents(world, ABOUT, count)):
        name, kind = _name(document).split(), document.kind
        tokens = document.text.split()
        tags: list[str] = []
        while len(tags) < len(tokens):
            here = [token.strip(".,'?") for token in tokens[len(tags) : len(tags) + len(name)]]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)] if here == name else ["O"]
        yield {"id": f"world.{number}", "split": _split(number), "tokens": tokens, "tags": tags}


def facts(world: World, count: int) -> Iterator[Row]:
    """Beginnings of documents up to a fact, with all its values as choices."""
    for number, item in enumerate(fact_items(world, count)):
        choices = [choice.strip() for choice in item.choices]
        asked = {"question": item.prefix, "choices": choices, "answer": item.answer}
        yield {"id": f"world.{number}", **asked, "relation": item.relation}


def conversations(world: World, count: int) -> Iterator[Row]:
    """Questions about facts, with the value as the answer."""
    for number, item in enumerate(fact_items(world, count)):
        asked = {"id": f"world.{number}", "split": _split(number)}
        yield asked | {"messages": [_asked(item.prefix), _answer(item.choices[item.answer])]}


def preferences(world: World, count: int) -> Iterator[Row]:
    """The same questions: the value is chosen, another one of its relation rejected."""
    for number, item in enumerate(fact_items(world, count)):
        wrong = (item.answer + 1 + derive(0, "rejected", number) % (len(item.choices) - 1)) % len(item.choices)
        answers = {"chosen": [_answer(item.choices[item.answer])], "rejected": [_answer(item.choices[wrong])]}
        yield {"id": f"world.{number}", "split": _split(number), "prompt": [_asked(item.prefix)], **answers}


def _asked(prefix: str) -> Row:
    return {"role": "user", "content": f"{prefix} ...?"}


def _answer(choice: str) -> Row:
    return {"role": "assistant", "content": f"{choice.strip()}."}


def agreement(world: World, count: int) -> Iterator[Row]:
    """Minimal pairs of agreement."""
    for number, pair in enumerate(agreement_pairs(world, count)):
        yield {"id": f"world.{number}", "good": pair.good, "bad": pair.bad, "phenomenon": pair.phenomenon}


def corpus(world: World, count: int) -> Iterator[Row]:
    """Documents to be found."""
    for number, document in enumerate(_documents(world, ABOUT, count)):
        yield {"_id": f"d{number}", "title": "", "text": document.text}


def queries(world: World, count: int) -> Iterator[Row]:
    """What each of the documents is about, by name and facts."""
    for number, document in enumerate(_documents(world, ABOUT, count)):
        yield {"_id": f"q{number}", "text": _question(document)}


def judgements(world: World, count: int) -> dict[str, list[tuple[str, str]]]:
    """Of each query, the documents about the same thing, by split: half of the queries are for dev."""
    documents = _documents(world, ABOUT, count)
    about: dict[str, list[str]] = {}
    for number, document in enumerate(documents):
        about.setdefault(_name(document), []).append(f"d{number}")
    relevant: dict[str, list[tuple[str, str]]] = {"dev": [], "test": []}
    for number, document in enumerate(documents):
        relevant["dev" if number % 2 else "test"] += [(f"q{number}", answer) for answer in about[_name(document)]]
    return relevant


def triplets(world: World, count: int) -> Iterator[Row]:
    """Of other documents: what one is about, the document, and the document after it, which is about something else."""
    documents = _documents(world, ABOUT, count + 1, "validation")
    for document, following in pairwise(documents):
        if _name(document) != _name(following):
            texts = {"query": _question(document), "positive": document.text, "negative": following.text}
            yield {"source": "world", **texts}


def questions(world: World, count: int) -> Iterator[Row]:
    """What one document is about, with the document or with the one after it: do they belong together."""
    documents = _documents(world, ABOUT, count + 1)
    for number, (document, following) in enumerate(pairwise(documents)):
        second = following if number % 2 else document
        texts = {"text1": _question(document), "text2": second.text}
        yield {"id": f"world.{number}", **texts, "label": int(_name(document) == _name(second))}


def candidates(world: World, count: int) -> Iterator[Row]:
    """What a document is about, the documents about that, and some about something else."""
    documents = _documents(world, ABOUT, count + CANDIDATES)
    for number, document in enumerate(documents[:count]):
        near = documents[number : number + CANDIDATES]
        sides = {
            side: [text.text for text in near if (_name(text) == _name(document)) == right]
            for side, right in (("positive", True), ("negative", False))
        }
        yield {"id": f"world.{number}", "query": _question(document), **sides}


def blimp(world: World, count: int) -> Iterator[Row]:
    """BLiMP's form: a paradigm for each phenomenon, and the anaphors that the agreement protocol reads by name."""
    seen: Counter[str] = Counter()
    for pair in agreement_pairs(world, count):
        keys = {"UID": f"world_{pair.phenomenon}", "pairID": str(seen[pair.phenomenon]), "field": "world"}
        seen[pair.phenomenon] += 1
        yield keys | {"term": pair.phenomenon, "good": pair.good, "bad": pair.bad, "simple_LM_method": True}
    for number, occupation in enumerate(world.occupations):
        sentence = f"The {occupation.name} saw {{}} in the window."
        for paradigm, good, bad in (("gender", "himself", "themselves"), ("number", "herself", "themselves")):
            keys = {"UID": f"anaphor_{paradigm}_agreement", "pairID": str(number), "field": "world"}
            yield keys | {"term": "anaphor_agreement", "good": sentence.format(good), "bad": sentence.format(bad)}


def winogender(world: World, count: int) -> Iterator[Row]:
    """Winogender's form, of the world's occupations with their true shares."""
    for occupation in world.occupations[:count]:
        share = round(100 * occupation.female / (occupation.female + occupation.male), 2)
        for answer, end in ((0, "was late."), (1, "was kind.")):
            for gender, pronoun in PRONOUNS.items():
                ending = end.replace("was", "were") if gender == "neutral" else end
                yield {
                    "id": f"world.{occupation.name}.stranger.{answer}.{gender}",
                    "sentence": f"The {occupation.name} told the stranger that {pronoun} {ending}",
                    "occupation": occupation.name,
                    "participant": "stranger",
                    "answer": answer,
                    "pronoun_gender": gender,
                    "bls_pct_female": share,
                    "bergsma_pct_female": share,
                }


def winobias(world: World, count: int) -> Iterator[Row]:
    """WinoBias's form: each occupation's more frequent pronoun is the stereotype."""
    texts = {
        1: "The {} met the stranger because {} was ill.",
        2: "The stranger met the {} and asked whether {} was ill.",
    }
    for number, occupation in enumerate(world.occupations[:count]):
        pronouns = _more_and_less(occupation)
        for kind, text in texts.items():
            for condition, pronoun in zip(("pro", "anti"), pronouns, strict=True):
                pair = f"world.{number}.type{kind}"
                keys = {"id": f"{pair}.{condition}", "pair_id": pair, "type": kind, "condition": condition}
                yield keys | {"sentence": text.format(occupation.name, pronoun), "pronoun": pronoun}


def crows_pairs(world: World, count: int) -> Iterator[Row]:
    """CrowS-Pairs' form: beginnings of stories under the likelier pronoun of an occupation, and the other."""
    for number, item in enumerate(pronoun_items(world, count)):
        she, he, _ = item.variants
        more, less = (she, he) if item.female >= item.male else (he, she)
        keys = {"id": f"world.{number}", "direction": "stereo", "bias_type": "gender"}
        yield keys | {"sent_more": more, "sent_less": less}


def stereoset(world: World, count: int) -> Iterator[Row]:
    """StereoSet's form: an occupation with its likelier pronoun, the other, and a word that fits nowhere."""
    for occupation in world.occupations[:count]:
        more, less = _more_and_less(occupation)
        texts = [f"The {occupation.name} said that {word} was late." for word in (more, less, "under")]
        endings = dict(zip(("stereotype", "anti_stereotype", "unrelated"), texts, strict=True))
        yield {"id": f"world.{occupation.name}", "bias_type": "gender", "target": occupation.name, **endings}


SETS = (
    GeneratedSet("cls/world_topic.jsonl", topics),
    GeneratedSet("cls/world_entailment.jsonl", entailment),
    GeneratedSet("sts/world_overlap.jsonl", overlap),
    GeneratedSet("token/world_names.jsonl", names),
    GeneratedSet("mc/world_facts.jsonl", facts),
    GeneratedSet("probing/world_agreement.jsonl", agreement),
    GeneratedSet("retrieval/world_documents/corpus.jsonl", corpus),
    GeneratedSet("retrieval/world_documents/queries.jsonl", queries),
    GeneratedSet("retrieval/train_triplets.jsonl", triplets),
    GeneratedSet("pairs/world_questions.jsonl", questions),
    GeneratedSet("reranking/world_candidates.jsonl", candidates),
    GeneratedSet("chat/world_conversations.jsonl", conversations),
    GeneratedSet("chat/world_preferences.jsonl", preferences),
    GeneratedSet("probing/blimp.jsonl", blimp, "BLiMP"),
    GeneratedSet("bias/winogender.jsonl", winogender, "Winogender"),
    GeneratedSet("bias/winobias.jsonl", winobias, "WinoBias"),
    GeneratedSet("bias/crows_pairs.jsonl", crows_pairs, "CrowS-Pairs"),
    GeneratedSet("bias/stereoset_intrasentence.jsonl", stereoset, "StereoSet"),
)


def task_files(world: World) -> dict[str, str]:
    """What the generated tasks' own files say."""
    labels = ", ".join(world.facts.topics)
    return {
        "world_topic": f"kind: classification\nlabels: [{labels}]\n",
        "world_topic_clusters": f"kind: clustering\nfile: cls/world_topic\nlabels: [{labels}]\n",
        "world_entailment": f"kind: pair\nlabels: [{', '.join(ENTAILMENT_LABELS)}]\n",
        "world_facts": 'kind: multiple_choice\nprompt: "{question}"\ncluster: relation\n',
        "world_agreement": "kind: minimal_pairs\ncluster: phenomenon\n",
    }


def _documents(world: World, kinds: tuple[str, ...], count: int, split: str = "test") -> list[WorldDocument]:
    documents: list[WorldDocument] = []
    number = 0
    while len(documents) < count:
        document = world.document(split, number)
        number += 1
        if document.kind in kinds:
            documents.append(document)
    return documents


def _name(document: WorldDocument) -> str:
    return str(document.labels[document.kind])


def _question(document: WorldDocument) -> str:
    """The content of a document as a query: the name, and each relation with its value."""
    values = dict(document.labels["facts"])  # type: ignore[call-overload]
    return f"{_name(document)}: " + ", ".join(f"{relation} {value}" for relation, value in values.items())


def _more_and_less(occupation: Any) -> tuple[str, str]:
    return ("she", "he") if occupation.female >= occupation.male else ("he", "she")
