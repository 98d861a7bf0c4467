"""Minimal pairs and facts: the items, the winner, ties, chance; and the same numbers for every member."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import multiple_choice
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.multiple_choice import Choice
from ettin_core.evaluation.protocol import ItemResult, Measured, mean_result
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite import applicable
from ettin_core.evaluation.suite_config import SuiteConfig
from tests.evaluation.test_estimators import DIRECTIONS, answer, rigged, tiny

SUITE = SuiteConfig(1500, 12, 1, None, 8192)
CHOOSING = [protocol for protocol in PROTOCOLS if protocol.name.startswith(("minimal_pairs", "facts"))]
FIELDS = {"morphology": 18, "semantics": 9, "syntax": 26, "syntax_semantics": 14}


def by_task(measured: Measured) -> dict[str, float | None]:
    """Values by task."""
    return {result.task: result.value for result in measured[0]}


def question(task: str, group: str, item: str, options: int, answer: int = 0) -> Choice:
    """A question of which only the shape matters."""
    return Choice(task, group, item, "", tuple(f"option {number}" for number in range(options)), "", answer)


def measured(questions: list[Choice], scores: list[list[float]]) -> Measured:
    """What is made of given scores."""
    return multiple_choice.answered(None, questions, lambda model, chosen: scores)  # type: ignore[arg-type]


def test_the_likeliest_option_wins() -> None:
    questions = [question("t", "g", str(number), 3, answer=1) for number in range(3)]
    results, items = measured(questions, [[-3, -2, -4], [-1, -2, -4], [-9, -8, -7]])
    assert [item.value for item in items] == [1, 0, 0]
    assert results[0].value == pytest.approx(1 / 3)
    assert results[0].standard_error == pytest.approx(1 / 3)  # sd of 1, 0, 0 is sqrt(1/3); over sqrt(3)


def test_a_tie_is_a_guess_wherever_the_answer_is() -> None:
    questions = [question("t", "g", "first", 2, 0), question("t", "g", "last", 2, 1), question("t", "g", "lost", 3, 2)]
    _, items = measured(questions, [[-1, -1], [-1, -1], [-1, -1, -2]])
    assert [item.value for item in items] == [0.5, 0.5, 0]


def test_chance_follows_from_the_options_of_the_questions() -> None:
    questions = [question("t", "two", "a", 2), question("t", "two", "b", 2), question("t", "four", "c", 4)]
    results, _ = measured(questions, [[-1, -2], [-2, -1], [-1, -2, -2, -2]])
    chance = {
        result.task: (result.value, result.n, result.reference) for result in results if result.metric == "accuracy"
    }
    assert chance == {"t": (2 / 3, 3, 1.25 / 3), "t/two": (0.5, 2, 0.5), "t/four": (1.0, 1, 0.25)}


def test_one_group_is_not_reported_twice_and_tasks_stay_apart() -> None:
    questions = [question("one", "g", "a", 2), question("two", "g", "a", 2)]
    results, _ = measured(questions, [[-1, -2], [-2, -1]])
    accuracies = [result for result in results if result.metric == "accuracy"]
    assert [(result.task, result.value, result.standard_error) for result in accuracies] == [
        ("one", 1.0, None),
        ("two", 0.0, None),
    ]


def test_standard_error_of_an_accuracy() -> None:
    result = mean_result("t", "accuracy", [1.0] * 30 + [0.0] * 70)
    assert result.standard_error == pytest.approx((0.3 * 0.7 / 99) ** 0.5)


@pytest.mark.parametrize("protocol", CHOOSING, ids=lambda protocol: protocol.name)
def test_rigged_members_give_the_same_known_numbers(protocol, corpus: Corpus) -> None:  # type: ignore[no-untyped-def]
    bias = (torch.randn(1024, generator=torch.Generator().manual_seed(5)) * 2).log_softmax(-1)
    asked = list((multiple_choice._pairs if "pairs" in protocol.name else multiple_choice._facts)(corpus, SUITE))
    expected = []
    for choice in asked:
        sums = []
        for option in choice.options:
            text = corpus.tokenizer.encode([option if choice.prefix else choice.prefix + option + choice.suffix])[0]
            sums.append(float(bias[text].double().sum()))
        expected.append(sums)
    models = [rigged(corpus, bias, objective) for objective in DIRECTIONS]
    measured = [protocol.measure(model, corpus, SUITE) for model in models if protocol in applicable(model.readout)]
    assert len(measured) == (3 if "left_to_right" in protocol.name else 2)
    for results, items in measured:
        for item, sums, choice in zip(items, expected, asked, strict=True):
            assert item.details["log_probabilities"] == pytest.approx(sums, abs=5e-5)
            assert item.value == float(np.argmax(sums) == choice.answer)
        assert by_task((results, items)) == by_task(measured[0])


def test_a_uniform_model_prefers_fewer_tokens_and_guesses_among_equals(corpus: Corpus) -> None:
    asked = list(multiple_choice._facts(corpus, SUITE))
    _, items = multiple_choice.facts("left_to_right")(rigged(corpus), corpus, SUITE)
    sizes = [[len(ids) for ids in corpus.tokenizer.encode(list(choice.options))] for choice in asked]
    expected = [
        (lengths[choice.answer] == min(lengths)) / lengths.count(min(lengths))
        for lengths, choice in zip(sizes, asked, strict=True)
    ]
    assert [item.value for item in items] == expected
    assert 0 < sum(expected) < len(expected)


def test_facts_of_a_causal_model_by_hand(corpus: Corpus) -> None:
    model = tiny(corpus)
    choice = next(multiple_choice._facts(corpus, SUITE))
    start = [corpus.tokenizer.special.bos, *corpus.tokenizer.encode([choice.prefix])[0]]
    sums = []
    for option in choice.options:
        ids = corpus.tokenizer.encode([option])[0]
        rows = [(start + ids[:place], token) for place, token in enumerate(ids)]
        sums.append(sum(answer(model, row, len(row) - 1, token) for row, token in rows))
    _, items = multiple_choice.facts("left_to_right")(model, corpus, SUITE)
    assert items[0].details["log_probabilities"] == pytest.approx(sums, abs=2e-5)


def values(items: list[ItemResult]) -> list[float]:
    """Every log-probability of some items."""
    return [value for item in items for value in item.details["log_probabilities"]]


@pytest.mark.parametrize("objective", DIRECTIONS)
@pytest.mark.parametrize("protocol", CHOOSING, ids=lambda protocol: protocol.name)
def test_accuracy_does_not_depend_on_batching(protocol, objective: str, corpus: Corpus) -> None:  # type: ignore[no-untyped-def]
    models: list[EvaluatedModel] = [tiny(corpus, objective, batch_tokens=size) for size in (16, 200, 8192)]
    if protocol not in applicable(models[0].readout):
        assert objective == "clm" and "pseudo" in protocol.name
        return
    few = replace(SUITE, items=4)  # of a few tokens each: at 16 tokens a batch is one row
    first, second, third = (protocol.measure(model, corpus, few) for model in models)
    assert by_task(first) == by_task(second) == by_task(third)
    assert values(first[1]) == pytest.approx(values(third[1]), abs=2.1e-5)  # they are stored with five decimals
    assert values(second[1]) == pytest.approx(values(third[1]), abs=2.1e-5)


def test_world_questions_are_well_formed(corpus: Corpus) -> None:
    pairs, facts = list(multiple_choice._pairs(corpus, SUITE)), list(multiple_choice._facts(corpus, SUITE))
    assert len(pairs) == len(facts) == SUITE.items
    for choice in facts:
        assert len(set(choice.options)) == len(choice.options) >= 4
        assert all(option[0] == " " for option in choice.options) and not choice.prefix.endswith(" ")
    assert {choice.task for choice in facts} == {"repeated", "once"}
    for choice in pairs:
        good, bad = (option.split() for option in choice.options)
        assert sum(left != right for left, right in zip(good, bad, strict=True)) == 1 and choice.answer == 0


def test_an_option_without_a_separate_token_is_an_error(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Choice("t", "g", "0", "The nurs", ("", "e"), " was late.", 1)
    monkeypatch.setattr(multiple_choice, "_facts", lambda *arguments: [broken])
    with pytest.raises(AssertionError, match="no token ends within"):
        multiple_choice.facts("left_to_right")(tiny(corpus), corpus, SUITE)


def test_blimp(corpus: Corpus, real_data: Path) -> None:
    count = 3
    suite = SuiteConfig(1, 1, count, str(real_data / "eval"), 1)
    blimp = [choice for choice in multiple_choice._pairs(corpus, suite) if choice.task == "blimp"]
    assert len(blimp) == len({choice.item for choice in blimp}) == 67 * count
    assert Counter(choice.group for choice in blimp) == {field: number * count for field, number in FIELDS.items()}
    paradigms = Counter(choice.item.split("#")[0] for choice in blimp)
    assert len(paradigms) == 67 and set(paradigms.values()) == {count}
    assert all(choice.answer == 0 and choice.options[0] != choice.options[1] for choice in blimp)
    first = next(choice for choice in blimp if choice.item == "adjunct_island#0")
    assert first.options[0] == "Who should Derek hug after shocking Richard?"


def test_blimp_is_measured_in_fields_phenomena_and_paradigms(corpus: Corpus, real_data: Path) -> None:
    suite = SuiteConfig(1, 2, 1, str(real_data / "eval"), 8192)
    results, items = multiple_choice.minimal_pairs("left_to_right")(tiny(corpus), corpus, suite)
    by_task_name = {row.task: row for row in results if row.task.startswith("blimp") and row.metric == "accuracy"}
    assert {task: result.n for task, result in by_task_name.items() if task.count("/") < 2} == {"blimp": 67} | {
        f"blimp/{field}": number for field, number in FIELDS.items()
    }
    for part, count in (("phenomenon", 13), ("paradigm", 67)):
        part_results = [result for task, result in by_task_name.items() if task.startswith(f"blimp/{part}/")]
        assert len(part_results) == count and sum(result.n for result in part_results) == 67
        assert by_task_name["blimp"].value == pytest.approx(
            sum(result.value * result.n for result in part_results) / 67
        )
    fields = sum(by_task_name[f"blimp/{field}"].value * number for field, number in FIELDS.items()) / 67  # type: ignore[operator]
    assert by_task_name["blimp"].value == pytest.approx(fields)
    assert by_task_name["blimp"].reference == 0.5


def test_a_missing_evaluation_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks probing/blimp.jsonl.gz"):
        SuiteConfig(1, 1, 1, str(tmp_path), 1)
