"""Corrections match hand-worked examples; what decides an interval, and the name of what was measured."""

import pytest

from analysis.items import kind_of
from analysis.uncertainty import holm
from analysis.wording import protocol_name


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.04, made monotone
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_change_of_a_share_is_no_share() -> None:
    """A share's interval ends at 0, where half of the changes are below."""
    assert [kind_of(metric) for metric in ("accuracy", "accuracy_change")] == ["share", "mean"]


def test_a_family_without_a_way_ends_without_a_comma() -> None:
    assert protocol_name("chat") == "Chat" and protocol_name("mteb.sparse.splade").startswith("Retrieval, sparse")
