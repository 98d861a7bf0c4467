"""Which language a text is in, by langdetect; the same text has the same answer in every process."""

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import UserError, unknown, with_extra

UNDETERMINED = ("und", 0.0)
CHARACTERS = 2_000
BEGINNING = re.compile(rf".{{1,{CHARACTERS}}}(?!\S)", re.DOTALL)
SEED = 0


def identify(text: str) -> tuple[str, float]:
    """The most probable language (ISO 639-1) of the beginning of a text, and its probability.

    Text without letters, and text that langdetect gives no probability of 0.1 or more, is ("und", 0.0). Variants of
    a language (zh-cn, zh-tw) count as one.
    """
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.append(beginning(text))
    try:
        candidates = detector.get_probabilities()
    except LangDetectException:
        return UNDETERMINED
    probabilities: Counter[str] = Counter()
    for candidate in candidates:
        probabilities[candidate.lang.split("-")[0]] += candidate.prob
    if not probabilities:
        return UNDETERMINED
    language, probability = min(probabilities.items(), key=lambda item: (-item[1], item[0]))
    return language, min(probability, 1.0)


def beginning(text: str) -> str:
    """The first 2,000 characters, cut at a word's edge where there is one."""
    match = BEGINNING.match(text)
    return match[0] if match else text[:CHARACTERS]


def check_language(language: str) -> None:
    """Raises ValueError if langdetect does not know a language, or is not installed."""
    known = sorted({name.split("-")[0] for name in _factory().get_lang_list()})
    if language not in known:
        raise unknown("data.curation.language", language, "is not a language that langdetect knows", known)


@lru_cache(maxsize=1)
def _factory() -> Any:
    try:
        from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
    except ImportError as error:
        raise UserError(
            "data.curation.language needs langdetect, which is not installed; "
            f"{with_extra('curation')}, or set data.curation.language=null."
        ) from error
    factory = DetectorFactory()
    factory.set_seed(SEED)
    profiles = sorted(Path(PROFILES_DIRECTORY).glob("[a-z]*"))  # sums of probabilities depend on the order
    factory.load_json_profile([profile.read_text("utf-8") for profile in profiles])
    return factory
