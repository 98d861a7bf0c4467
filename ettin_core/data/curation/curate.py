"""The judge of one document: language first, then the sets of quality rules in the order of the configuration."""

from dataclasses import dataclass

from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.curation.language import check_language, identify
from ettin_core.data.curation.rules import SETS
from ettin_core.data.curation.rules_features import Features


@dataclass(frozen=True)
class Verdict:
    """What becomes of a document.

    Args:
        text: the text to keep; of a removed document the text as it came.
        reason: the rule that removed the document ("gopher_quality.too_few_words"), None when it is kept.
        lines_removed: how many lines of a kept document were dropped, by rule.
    """

    text: str
    reason: str | None
    lines_removed: dict[str, int]


class Curator:
    """Judges documents one by one; a document's verdict depends on nothing but its text and the configuration."""

    def __init__(self, config: CurationConfig) -> None:
        """Raises ValueError if langdetect does not know the language, or is not installed."""
        if config.language:
            check_language(config.language)
        self._config = config
        self._sets = [SETS[name] for name in config.rules]

    def judge(self, text: str) -> Verdict:
        """Keep the text, or some of its lines, or nothing."""
        reason = self._language_reason(text)
        if reason:
            return Verdict(text, reason, {})
        features = Features(text)
        lines_removed: dict[str, int] = {}
        for rules in self._sets:
            features, reason, dropped = rules.apply(features)
            if reason:
                return Verdict(text, reason, {})
            lines_removed |= dropped
        return Verdict(features.text, None, lines_removed)

    def _language_reason(self, text: str) -> str | None:
        if not self._config.language:
            return None
        language, probability = identify(text)
        if language != self._config.language:
            return f"language.{language}"
        return "language.uncertain" if probability < self._config.language_probability else None
