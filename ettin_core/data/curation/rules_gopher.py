"""The quality and repetition rules of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1)."""

from collections.abc import Callable
from string import punctuation

from ettin_core.data.curation.rules_features import Features, share
from ettin_core.data.curation.rules_table import Rule, RuleSet

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
BULLETS = ("•", "‣", "◦", "▪", "●", "○", "·", "-", "–", "*")
ELLIPSES = ("...", "…")
QUOTES = "“”‘’«»"

QUALITY_SOURCE = "Rae et al. 2021, A.1.1, quality filtering"
REPETITION_SOURCE = "Rae et al. 2021, A.1.1, table A1"


def _ellipses_per_word(page: Features) -> float:
    return share(sum(map(page.text.count, ELLIPSES)), len(page.words))


def _lines_that(test: Callable[[str], bool]) -> Callable[[Features], float]:
    return lambda page: share(sum(map(test, page.lines)), len(page.lines))


def _words_with_a_letter(page: Features) -> float:
    return share(sum(word.isalpha() or any(map(str.isalpha, word)) for word in page.words), len(page.words))


def _stop_words(page: Features) -> float:
    return len(STOP_WORDS & {word.strip(punctuation + QUOTES) for word in set(page.lower.split())})


GOPHER_QUALITY = RuleSet(
    "gopher_quality",
    document=(
        Rule("too_few_words", lambda page: len(page.words), "<", 50, QUALITY_SOURCE),
        Rule("too_many_words", lambda page: len(page.words), ">", 100_000, QUALITY_SOURCE),
        Rule("short_words", lambda page: page.mean_word_length, "<", 3, QUALITY_SOURCE),
        Rule("long_words", lambda page: page.mean_word_length, ">", 10, QUALITY_SOURCE),
        Rule("hashes", lambda page: share(page.text.count("#"), len(page.words)), ">", 0.1, QUALITY_SOURCE),
        Rule("ellipses", _ellipses_per_word, ">", 0.1, QUALITY_SOURCE),
        Rule("bullet_lines", _lines_that(lambda line: line.startswith(BULLETS)), ">", 0.9, QUALITY_SOURCE),
        Rule("ellipsis_lines", _lines_that(lambda line: line.endswith(ELLIPSES)), ">", 0.3, QUALITY_SOURCE),
        Rule("words_without_letters", _words_with_a_letter, "<", 0.8, QUALITY_SOURCE),
        Rule("too_few_stop_words", _stop_words, "<", 2, QUALITY_SOURCE),
    ),
)


def _top_gram(n: int, threshold: float) -> Rule[Features]:
    return Rule(f"top_{n}_gram", lambda page: page.top_gram_share(n), ">", threshold, REPETITION_SOURCE)


def _repeated_grams(n: int, threshold: float) -> Rule[Features]:
    return Rule(f"repeated_{n}_grams", lambda page: page.repeated_gram_share(n), ">", threshold, REPETITION_SOURCE)


GOPHER_REPETITION = RuleSet(
    "gopher_repetition",
    document=(
        Rule("duplicate_lines", lambda page: page.duplicate_lines.items, ">", 0.30, REPETITION_SOURCE),
        Rule("duplicate_paragraphs", lambda page: page.duplicate_paragraphs.items, ">", 0.30, REPETITION_SOURCE),
        Rule("duplicate_line_characters", lambda page: page.duplicate_lines.characters, ">", 0.20, REPETITION_SOURCE),
        Rule(
            "duplicate_paragraph_characters",
            lambda page: page.duplicate_paragraphs.characters,
            ">",
            0.20,
            REPETITION_SOURCE,
        ),
        _top_gram(2, 0.20),
        _top_gram(3, 0.18),
        _top_gram(4, 0.16),
        _repeated_grams(5, 0.15),
        _repeated_grams(6, 0.14),
        _repeated_grams(7, 0.13),
        _repeated_grams(8, 0.12),
        _repeated_grams(9, 0.11),
        _repeated_grams(10, 0.10),
    ),
)
