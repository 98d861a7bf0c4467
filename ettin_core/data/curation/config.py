"""What curation does to a source; every step is off unless it is named."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid, unknown

RULE_SETS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


@dataclass(frozen=True)
class CurationConfig:
    """Steps in their order: language, rules, exact duplicates, near duplicates.

    Args:
        rules: sets of published quality rules, in the order they are applied.
        language: ISO 639-1 code of the language to keep (None: any), at a probability of `language_probability` or more.
        exact_duplicates: keep the first of the documents of a source that are equal but for case and white space.
        near_duplicates: keep the first of documents whose 5-word shingles have about this Jaccard similarity (None: off).
    """

    rules: tuple[str, ...] = ()
    language: str | None = None
    language_probability: float = 0.65
    exact_duplicates: bool = False
    near_duplicates: float | None = None

    def __post_init__(self) -> None:
        for name in self.rules:
            if name not in RULE_SETS:
                raise unknown("data.curation.rules", name, "is not a set of rules", RULE_SETS)
        if len(set(self.rules)) < len(self.rules):
            raise invalid("data.curation.rules", list(self.rules), "names a set twice", "name each once")
        if self.language == "":
            raise invalid("data.curation.language", "", "is not a language", "use a code such as en, or null for any")
        if not 0 < self.language_probability <= 1:
            raise invalid(
                "data.curation.language_probability",
                self.language_probability,
                "is not above 0 and at most 1",
                "use 0.65",
            )
        if self.near_duplicates is not None and not 0.3 <= self.near_duplicates < 1:
            raise invalid("data.curation.near_duplicates", self.near_duplicates, "is not between 0.3 and 1", "use 0.75")

    @property
    def is_off(self) -> bool:
        """Whether every document is kept as it is."""
        return not self.rules and self.language is None and not self.removes_duplicates

    @property
    def packages(self) -> tuple[str, ...]:
        """The libraries whose version may change what is kept."""
        language = ("langdetect",) if self.language else ()
        return language + (("datasketch",) if self.near_duplicates is not None else ())

    @property
    def removes_duplicates(self) -> bool:
        """Whether documents have to be compared with each other."""
        return self.exact_duplicates or self.near_duplicates is not None
