"""The rules of two corpora of web pages: C4 (Raffel et al. 2020, section 2.2) and FineWeb (Penedo et al. 2024)."""

import re

from ettin_core.data.curation.rules_features import Features, share
from ettin_core.data.curation.rules_table import Rule, RuleSet

C4_SOURCE = "Raffel et al. 2020, section 2.2 (arXiv 1910.10683v4)"
FINEWEB_SOURCE = "Penedo et al. 2024, section 3.6 (arXiv 2406.17557)"

C4_END_MARKS = (".", "!", "?", '"', "”")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CITATIONS_AT_END = re.compile(r"(?:\s*\[(?:\d*|edit|citation needed)\])+$")
SENTENCE_BREAK = re.compile(r"[.!?][\"'”’)\]]*\s+(?![a-z])")

END_MARKS = (".", "!", "?", "…", "。", "！", "？", "؟", "।", '"', "'", "”", "’")
SHORT_LINE = 30


def _has_end_mark(line: str) -> bool:
    if line.endswith("]"):
        line = CITATIONS_AT_END.sub("", line)
    return line.endswith(C4_END_MARKS) and not line.endswith("...")


def _mentions_policy(line: str) -> bool:
    lower = line.lower()
    return any(phrase in lower for phrase in POLICY)


def _sentences(page: Features) -> float:
    return sum(1 + len(SENTENCE_BREAK.findall(line)) for line in page.lines)


C4 = RuleSet(
    "c4",
    document=(
        Rule("lorem_ipsum", lambda page: "lorem ipsum" in page.lower, ">=", 1, C4_SOURCE),
        Rule("curly_bracket", lambda page: "{" in page.text, ">=", 1, C4_SOURCE),
    ),
    lines=(
        Rule("line_without_end_mark", _has_end_mark, "<", 1, C4_SOURCE),
        Rule("line_of_few_words", lambda line: len(line.split()), "<", 5, C4_SOURCE),
        Rule("javascript_line", lambda line: "javascript" in line.lower(), ">=", 1, C4_SOURCE),
        Rule("policy_line", _mentions_policy, ">=", 1, C4_SOURCE),
    ),
    remainder=(Rule("too_few_sentences", _sentences, "<", 3, C4_SOURCE),),
)


def _lines_with_end_mark(page: Features) -> float:
    return share(sum(line.endswith(END_MARKS) for line in page.lines), len(page.lines))


def _short_lines(page: Features) -> float:
    return share(sum(len(line) < SHORT_LINE for line in page.lines), len(page.lines))


FINEWEB = RuleSet(
    "fineweb",
    document=(
        Rule("few_lines_with_end_mark", _lines_with_end_mark, "<=", 0.12, FINEWEB_SOURCE),
        Rule("duplicate_line_characters", lambda page: page.duplicate_lines.characters, ">=", 0.1, FINEWEB_SOURCE),
        Rule("short_lines", _short_lines, ">=", 0.67, FINEWEB_SOURCE),
    ),
)
