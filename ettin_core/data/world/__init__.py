"""A seeded generator of small English-like documents of which everything is known.

People, towns, treasures, stories, questions, sentence pairs and topics, with exact probabilities (``World``), and
probes that compare a model with the truth (``agreement_pairs`` and the ``*_items`` functions). Needs no download and
nothing outside the standard library.
"""

from ettin_core.data.world.facts import Occupation, WorldConfig
from ettin_core.data.world.probes import (
    FactItem,
    LabelledItem,
    MinimalPair,
    PronounItem,
    agreement_pairs,
    entailment_items,
    fact_items,
    pronoun_items,
    topic_items,
)
from ettin_core.data.world.world import World, WorldDocument

__all__ = [
    "FactItem",
    "LabelledItem",
    "MinimalPair",
    "Occupation",
    "PronounItem",
    "World",
    "WorldConfig",
    "WorldDocument",
    "agreement_pairs",
    "entailment_items",
    "fact_items",
    "pronoun_items",
    "topic_items",
]
