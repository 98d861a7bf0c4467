"""The published quality rules by the name of their set. Thresholds are in the tables of `rules_gopher` and `rules_web`."""

from ettin_core.data.curation.rules_gopher import GOPHER_QUALITY, GOPHER_REPETITION
from ettin_core.data.curation.rules_table import RuleSet
from ettin_core.data.curation.rules_web import C4, FINEWEB

SETS: dict[str, RuleSet] = {rules.name: rules for rules in (GOPHER_QUALITY, GOPHER_REPETITION, C4, FINEWEB)}
