"""Quality rules: every rule keeps what is just inside its threshold and removes what is just outside."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_core.data.curation.config import RULE_SETS, CurationConfig
from ettin_core.data.curation.curate import Curator
from ettin_core.data.curation.rules import SETS
from ettin_core.data.curation.rules_features import Features
from ettin_core.data.curation.rules_table import Rule

DOCS = Path(__file__).parents[2] / "docs" / "curation.md"
STOPS = ["the", "and"]
SENTENCE = "These are five plain words."


def unique(count: int, start: int = 0, letters: int = 5) -> list[str]:
    """Different words of the same length, none of them a stop word."""
    return [
        "".join(chr(97 + number // 26**place % 26) for place in range(letters))
        for number in range(start, start + count)
    ]


def page(*words: str, count: int = 50) -> str:
    """A page of one line with two stop words, these words, and so many words in all."""
    return " ".join([*STOPS, *words, *unique(count - len(words) - 2)])


def lines(special: int, count: int, change: Callable[[str], str]) -> str:
    """`count` lines of 8 different words and a stop word, of which the first ones are changed."""
    all_lines = [f"{STOPS[number % 2]} {' '.join(unique(8, 8 * number))}" for number in range(count)]
    return "\n".join([change(line) for line in all_lines[:special]] + all_lines[special:])


def copied(n: int, threshold: float, times: int, more: int, first_counts: bool) -> str:
    """Words of which sequences of n words make up the threshold (`more`=0), or just more than it (`more`=1).

    The sequences are separated. `times`=2: ten sequences, each with a copy; otherwise one sequence, `times` times.
    """
    kinds = 10 if times == 2 else 1
    counted = kinds * n * (times if first_counts else times - 1)
    filler = iter(unique(math.ceil(round(counted / threshold, 6)) - more - kinds * n * times, 5000))
    sequence: list[str] = []
    for _ in range(times):
        for kind in range(kinds):
            sequence += [*unique(n, n * kind), next(filler)]
    return " ".join([*sequence, *filler])


def grams(n: int, threshold: float) -> tuple[str, str]:
    """Just inside and just outside for the characters in repeated n-grams."""
    return copied(n, threshold, 2, 0, False), copied(n, threshold, 2, 1, False)


def top(n: int, threshold: float) -> tuple[str, str]:
    """Just inside and just outside for the characters in the most frequent n-gram."""
    return copied(n, threshold, 20, 0, True), copied(n, threshold, 20, 1, True)


def copies(short: int, count: int, apart: str, rest: Callable[[int], str]) -> str:
    """So many items, of which `short` one-word items have a copy; the copies come in reverse order."""
    words = unique(short, 9000)
    return apart.join([*words, *(rest(number) for number in range(count - 2 * short)), *reversed(words)])


def long_line(number: int) -> str:
    """A line of 10 different words."""
    return " ".join(unique(10, 10 * number))


def paragraph(number: int) -> str:
    """A paragraph of 3 lines."""
    return "\n".join(long_line(3 * number + place) for place in range(3))


CASES: dict[str, tuple[str, str]] = {
    "gopher_quality.too_few_words": (page(count=50), page(count=49)),
    "gopher_quality.too_many_words": (page(count=100_000), page(count=100_001)),
    "gopher_quality.short_words": (" ".join(STOPS + ["cat"] * 58), " ".join([*STOPS, "of"] + ["cat"] * 57)),
    "gopher_quality.long_words": (
        " ".join([*STOPS, *unique(56, letters=10), *unique(2, letters=17)]),
        " ".join([*STOPS, *unique(56, letters=10), *unique(1, letters=17), *unique(1, letters=18)]),
    ),
    "gopher_quality.hashes": (page(*["tag#"] * 5), page(*["tag#"] * 6)),
    "gopher_quality.ellipses": (page(*["so...", "on…"] * 2, "so..."), page(*["so...", "on…"] * 3)),
    "gopher_quality.bullet_lines": (
        lines(18, 20, lambda line: "• " + line),
        lines(19, 20, lambda line: "  - " + line),
    ),
    "gopher_quality.ellipsis_lines": (
        lines(3, 10, lambda line: line + "..."),
        lines(4, 10, lambda line: line + "… "),
    ),
    "gopher_quality.words_without_letters": (page(*["1,234", "“it's"] * 10), page(*["1,234"] * 11)),
    "gopher_quality.too_few_stop_words": (
        " ".join(["The", "“that,”", *unique(48)]),
        " ".join(["the", "the", *unique(48)]),
    ),
    "gopher_repetition.duplicate_lines": (copies(30, 100, "\n", long_line), copies(31, 100, "\n", long_line)),
    "gopher_repetition.duplicate_paragraphs": (
        copies(30, 100, "\n\n", paragraph),
        copies(31, 100, "\n \n", paragraph),
    ),
    "gopher_repetition.duplicate_line_characters": (
        "\n".join(map(long_line, [0, 1, 2, 3, 0])),
        "\n".join([*map(long_line, [0, 1, 2]), long_line(3)[:-1], long_line(0)]),
    ),
    "gopher_repetition.duplicate_paragraph_characters": (
        "\n\n".join(map(paragraph, [0, 1, 2, 3, 0])),
        "\n\n".join([*map(paragraph, [0, 1, 2]), paragraph(3)[:-1], paragraph(0)]),
    ),
    "gopher_repetition.top_2_gram": top(2, 0.20),
    "gopher_repetition.top_3_gram": top(3, 0.18),
    "gopher_repetition.top_4_gram": top(4, 0.16),
    "gopher_repetition.repeated_5_grams": grams(5, 0.15),
    "gopher_repetition.repeated_6_grams": grams(6, 0.14),
    "gopher_repetition.repeated_7_grams": grams(7, 0.13),
    "gopher_repetition.repeated_8_grams": grams(8, 0.12),
    "gopher_repetition.repeated_9_grams": grams(9, 0.11),
    "gopher_repetition.repeated_10_grams": grams(10, 0.10),
    "c4.lorem_ipsum": (f"Lorem and ipsum.\n{SENTENCE * 3}", f"Lorem Ipsum\n{SENTENCE * 3}"),
    "c4.curly_bracket": (f"(a)\n{SENTENCE * 3}", f"{{a\n{SENTENCE * 3}"),
    "c4.too_few_sentences": (f"{SENTENCE} {SENTENCE} {SENTENCE}", f"{SENTENCE} {SENTENCE}"),
    "fineweb.few_lines_with_end_mark": (
        lines(4, 25, lambda line: line + ".”"),
        lines(3, 25, lambda line: line + "!"),
    ),
    "fineweb.duplicate_line_characters": (
        "\n".join(long_line(number) + "." for number in [*range(10), 0]),
        "\n".join(long_line(number) + "." for number in [*range(9), 0]),
    ),
    "fineweb.short_lines": (
        "\n".join([f"{number:>028}." for number in range(66)] + [f"{number:>029}." for number in range(34)]),
        "\n".join([f"{number:>028}." for number in range(67)] + [f"{number:>029}." for number in range(33)]),
    ),
}
LINE_CASES: dict[str, tuple[str, str]] = {
    "c4.line_without_end_mark": (SENTENCE, SENTENCE[:-1]),
    "c4.line_of_few_words": ("One two three four five.", "One two three four."),
    "c4.javascript_line": ("Learn to brew good java script by script.", "Please enable JavaScript to read on."),
    "c4.policy_line": ("We bake our cookies each morning.", "This site uses Cookies to count you."),
}
MASKED = {"gopher_repetition.duplicate_paragraph_characters": "gopher_repetition.duplicate_line_characters"}


def rule(name: str) -> Rule[Features]:
    """A document rule by its full name."""
    rules = SETS[name.split(".")[0]]
    return next(candidate for candidate in rules.document + rules.remainder if name == f"{rules.name}.{candidate.name}")


def judged(text: str, *names: str) -> str | None:
    """The reason of some sets."""
    return Curator(CurationConfig(rules=names)).judge(text).reason


def test_every_rule_of_every_named_set_has_a_case() -> None:
    assert tuple(SETS) == RULE_SETS
    rules = {
        f"{name}.{item.name}" for name, rule_set in SETS.items() for item in rule_set.document + rule_set.remainder
    }
    assert rules == set(CASES)
    assert {f"c4.{item.name}" for item in SETS["c4"].lines} == set(LINE_CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_keeps_just_inside_and_removes_just_outside(name: str) -> None:
    inside, outside = CASES[name]
    assert not rule(name).removes(Features(inside))
    assert rule(name).removes(Features(outside))
    assert judged(outside, name.split(".")[0]) == MASKED.get(name, name)


@pytest.mark.parametrize("name", LINE_CASES)
def test_a_line_rule_drops_its_line_and_counts_it(name: str) -> None:
    inside, outside = LINE_CASES[name]
    frame = f"{SENTENCE} {SENTENCE}\n\n  {SENTENCE}"
    kept = Curator(CurationConfig(rules=("c4",))).judge(f"{inside}\n\n{frame}")
    assert (kept.text, kept.reason, kept.lines_removed) == (f"{inside}\n\n{frame}", None, {})
    dropped = Curator(CurationConfig(rules=("c4",))).judge(f"{outside}\n\n{frame}\n{outside}\n\n{outside}\n")
    assert (dropped.text, dropped.reason, dropped.lines_removed) == (frame, None, {name: 3})


@pytest.mark.parametrize("end", [".", "!", "?", '."', ".”", ".[1]", ".[12][citation needed]", ".  [edit]"])
def test_a_line_ends_with_an_end_mark(end: str) -> None:
    assert not SETS["c4"].lines[0].removes("So it ends" + end)


@pytest.mark.parametrize("end", ["", "...", "…", ":", ",", ")", " [1]", ".[1", "'"])
def test_a_line_does_not_end_with_an_end_mark(end: str) -> None:
    assert SETS["c4"].lines[0].removes("So it ends" + end)


def test_sentences_end_before_white_space_and_no_small_letter() -> None:
    text = 'It cost 3.5 pounds, e.g. "Enough!" she said at www.example.com today.'
    assert judged(text, "c4") == "c4.too_few_sentences"
    assert judged(f"{text} Yes, it did. It really did.", "c4") is None


def test_a_removed_document_reports_its_text_and_no_lines() -> None:
    verdict = Curator(CurationConfig(rules=("c4",))).judge("A menu\nAnother\n")
    assert (verdict.text, verdict.reason, verdict.lines_removed) == ("A menu\nAnother\n", "c4.too_few_sentences", {})


def test_later_sets_judge_the_lines_that_are_left() -> None:
    text = f"{SENTENCE} {SENTENCE} {SENTENCE}\n" + "\n".join(unique(40))
    assert judged(text, "fineweb") == "fineweb.few_lines_with_end_mark"
    assert judged(text, "fineweb", "c4") == "fineweb.few_lines_with_end_mark"
    assert judged(text, "c4", "fineweb") is None
    verdict = Curator(CurationConfig(rules=("c4", "fineweb"))).judge(text)
    assert verdict.lines_removed == {"c4.line_without_end_mark": 40}


def test_a_document_that_loses_no_line_keeps_its_white_space() -> None:
    text = f"\n{SENTENCE} {SENTENCE}\r\n\n\n\n  {SENTENCE}\n\n"
    assert Curator(CurationConfig(rules=("c4",))).judge(text).text == text


@pytest.mark.parametrize("text", ["", " \n\t\n", "\n"])
def test_an_empty_document_is_removed_and_breaks_nothing(text: str) -> None:
    reasons = [judged(text, name) for name in SETS]
    assert reasons == ["gopher_quality.too_few_words", None, "c4.too_few_sentences", "fineweb.few_lines_with_end_mark"]


def slow_repeated(words: list[str], n: int) -> float:
    """Characters in second and later n-grams, by the definition."""
    seen, covered = set(), set()
    for place in range(len(words) - n + 1):
        gram = tuple(words[place : place + n])
        covered |= set(range(place, place + n)) if gram in seen else set()
        seen.add(gram)
    return sum(len(words[place]) for place in covered) / sum(map(len, words))


def slow_top(words: list[str], n: int) -> float:
    """Characters in the most frequent n-gram, by the definition."""
    all_grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
    frequent = max(map(all_grams.count, all_grams), default=0)
    longest = max((len("".join(gram)) for gram in all_grams if all_grams.count(gram) == frequent), default=0)
    return frequent * longest / sum(map(len, words)) if frequent > 1 else 0.0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=60), st.integers(1, 10))
def test_grams_are_counted_by_their_definition(words: list[str], n: int) -> None:
    features = Features(" ".join(words))
    assert features.repeated_gram_share(n) == pytest.approx(slow_repeated(words, n))
    assert features.top_gram_share(n) == pytest.approx(slow_top(words, n))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab .!?\n\r\t{“”#-…'\u2028é北"), max_size=200))
def test_no_text_breaks_a_rule_and_kept_lines_are_lines_of_the_text(text: str) -> None:
    for name in SETS:
        verdict = Curator(CurationConfig(rules=(name,))).judge(text)
        if verdict.lines_removed:
            assert set(verdict.text.split("\n")) - {""} <= set(text.split("\n"))
            assert sum(verdict.lines_removed.values()) == len(Features(text).lines) - len(Features(verdict.text).lines)
        else:
            assert verdict.text == text


def test_the_documentation_lists_every_rule_with_its_threshold() -> None:
    rows = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith("|")]
    listed = {cells[0]: cells[1] for cells in ([cell.strip() for cell in row.split("|")[1:]] for row in rows)}
    for rules in SETS.values():
        for item in (*rules.document, *rules.lines, *rules.remainder):
            assert listed[f"{rules.name}.{item.name}"] == f"{item.comparison} {item.threshold:,}", item.name
            assert "et al." in item.source
