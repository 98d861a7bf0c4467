"""Strict structures: every key and type is checked, and every difference is named."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.foundation.strict_config import ORDERED, build, differences, identity, plain


@dataclass(frozen=True)
class Inner:
    rate: float
    steps: int = 3


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    flag: bool = False
    limit: int | None = None
    second: Inner | None = None
    betas: tuple[float, ...] = (0.9, 0.98)
    stages: tuple[Inner, ...] = ()
    mixture: dict[str, float] | None = None
    phases: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


SMALL: dict[str, Any] = {"name": "a", "inner": {"rate": 0.5}}
FULL: dict[str, Any] = {
    "name": "a",
    "inner": {"rate": 0.5, "steps": 4},
    "flag": True,
    "limit": 7,
    "second": {"rate": 1.0, "steps": 1},
    "betas": [0.1, 0.2],
    "stages": [{"rate": 0.0, "steps": 0}],
    "mixture": {"books": 0.25},
    "phases": {"decay": {"rate": 2.0, "steps": 9}},
    "anything": {"free": [1, "x"]},
}


def refusal(values: dict[str, Any]) -> str:
    """The message with which `build` refuses the values."""
    with pytest.raises(ValueError) as caught:
        build(Outer, values)
    return str(caught.value)


def test_defaults_fill_what_is_not_given() -> None:
    assert build(Outer, SMALL) == Outer("a", Inner(0.5, 3))


def test_every_shape_is_built() -> None:
    built = build(Outer, FULL)
    assert built.second == Inner(1.0, 1)
    assert built.betas == (0.1, 0.2) and built.stages == (Inner(0.0, 0),)
    assert built.mixture == {"books": 0.25} and built.phases == {"decay": Inner(2.0, 9)}
    assert built.flag is True and built.limit == 7


def test_an_optional_field_takes_none() -> None:
    built = build(Outer, FULL | {"limit": None, "second": None, "mixture": None})
    assert built.limit is None and built.second is None and built.mixture is None


def test_an_instance_is_taken_as_it_is() -> None:
    inner = Inner(0.5)
    assert build(Outer, {"name": "a", "inner": inner}).inner is inner


def test_an_unknown_key_names_itself_its_near_miss_and_the_known_keys() -> None:
    message = refusal(SMALL | {"mixtrue": 1})
    assert "mixtrue=1 is an unknown key" in message
    assert "did you mean 'mixture'?" in message
    assert "name, inner, flag" in message


def test_an_unknown_key_without_a_near_miss_lists_the_known_keys() -> None:
    message = refusal(SMALL | {"zzz": 1})
    assert "did you mean" not in message and "use one of name, inner" in message


def test_an_unknown_key_inside_is_named_by_its_path() -> None:
    assert "phases.decay.stepz=1 is an unknown key" in refusal(SMALL | {"phases": {"decay": {"rate": 1.0, "stepz": 1}}})


def test_a_missing_key_is_named_by_its_path_with_its_type() -> None:
    assert "inner.rate=None is missing; give it a value of type float" in refusal({"name": "a", "inner": {}})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": 3}, "name=3"),
        ({"name": None}, "name=None"),
        ({"flag": 1}, "flag=1"),
        ({"flag": "true"}, "flag='true'"),
        ({"limit": "7"}, "limit='7'"),
        ({"limit": True}, "limit=True"),
        ({"limit": 7.5}, "limit=7.5"),
        ({"limit": float("inf")}, "limit=inf"),
        ({"inner": {"rate": "fast"}}, "inner.rate='fast'"),
        ({"inner": {"rate": True}}, "inner.rate=True"),
        ({"inner": 3}, "inner=3"),
        ({"inner": None}, "inner=None"),
        ({"betas": 0.9}, "betas=0.9"),
        ({"betas": [0.9, "x"]}, "betas.1='x'"),
        ({"stages": [{"rate": 1.0}, {"rate": None}]}, "stages.1.rate=None"),
        ({"mixture": {"books": "much"}}, "mixture.books='much'"),
        ({"mixture": [1]}, "mixture=[1]"),
        ({"phases": {"decay": 3}}, "phases.decay=3"),
    ],
)
def test_a_wrong_type_is_named_by_its_path_and_value(change: dict[str, Any], path: str) -> None:
    message = refusal(SMALL | change)
    assert message.startswith(f"{path} has type ") and "give a value of type" in message


def test_a_whole_float_is_a_count_and_a_whole_number_a_float() -> None:
    built = build(Outer, {"name": "a", "inner": {"rate": 1, "steps": 3e6}})
    assert built.inner == Inner(1.0, 3_000_000)
    assert type(built.inner.rate) is float and type(built.inner.steps) is int


def test_plain_is_the_inverse_of_build() -> None:
    assert plain(build(Outer, FULL)) == FULL
    assert build(Outer, plain(build(Outer, FULL))) == build(Outer, FULL)


values = st.builds(
    Outer,
    name=st.text(),
    inner=st.builds(Inner, rate=st.floats(allow_nan=False, allow_infinity=False), steps=st.integers()),
    limit=st.none() | st.integers(),
    betas=st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
    stages=st.lists(st.builds(Inner, rate=st.floats(0, 1), steps=st.integers())).map(tuple),
    mixture=st.none() | st.dictionaries(st.text(), st.floats(0, 1)),
    phases=st.dictionaries(st.text(), st.builds(Inner, rate=st.floats(0, 1), steps=st.integers())),
)


@given(values)
def test_every_structure_survives_the_round_trip(value: Outer) -> None:
    assert build(Outer, plain(value)) == value


def test_equal_values_do_not_differ() -> None:
    assert differences(FULL, plain(build(Outer, FULL))) == {}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, {"a.b": (1, 2)}),
        ({"a": 1}, {"a": 1.0}, {"a": (1, 1.0)}),
        ({"a": 1}, {"a": True}, {"a": (1, True)}),
        ({"a": 0}, {"a": False}, {"a": (0, False)}),
        ({"a": None}, {"a": 0}, {"a": (None, 0)}),
        ({"a": None}, {"a": None}, {}),
        ({"a": None}, {}, {"a": (None, None)}),
        ({"a": 3}, {}, {"a": (3, None)}),
        ({}, {"a": {"b": 1}}, {"a": (None, {"b": 1})}),
        ({"a": {}}, {"a": None}, {"a": ({}, None)}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"a.1": (2, 3)}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": ([1, 2], [1])}),
        ({"a": [1]}, {"a": [True]}, {"a.0": (1, True)}),
        ({"p": [{"name": "x", "k": 1}]}, {"p": [{"name": "x", "k": 2}]}, {"p.x.k": (1, 2)}),
        ({"a": "1"}, {"a": 1}, {"a": ("1", 1)}),
        ({"a": 1, "b": 2}, {"a": 9, "b": 8}, {"a": (1, 9), "b": (2, 8)}),
    ],
)
def test_differences_are_named_by_dotted_path(left: Any, right: Any, expected: dict[str, Any]) -> None:
    changes = differences(left, right)
    assert changes == expected
    assert [[type(item) for item in pair] for pair in changes.values()] == [
        [type(item) for item in pair] for pair in expected.values()
    ]


@dataclass(frozen=True)
class Ordered:
    stages: dict[str, Inner] = field(metadata=ORDERED)
    weights: dict[str, float] = field(default_factory=dict)
    first: Inner = field(default_factory=lambda: Inner(0.5))
    RETIRED: ClassVar[dict[str, Any]] = {"old": 1.5}


def test_a_field_at_its_default_is_no_part_of_the_identity() -> None:
    assert identity(build(Outer, SMALL)) == {"name": "a", "inner": {"rate": 0.5}}
    assert identity(build(Outer, SMALL | {"limit": 0, "betas": [0.9, 0.99], "second": {"rate": 1}})) == {
        "name": "a",
        "inner": {"rate": 0.5},
        "limit": 0,
        "second": {"rate": 1.0},
        "betas": [0.9, 0.99],
    }


def test_an_equal_value_of_another_type_is_not_the_default() -> None:
    assert identity(Inner(0.5, True)) == {"rate": 0.5, "steps": True} == identity(Inner(0.5, 1))
    assert type(identity(Inner(0.5, 3.0))["steps"]) is float  # type: ignore[arg-type]
    assert "first" not in identity(Ordered({}, first=Inner(0.5, 3))) and "first" in identity(
        Ordered({}, first=Inner(1))
    )


def test_the_order_counts_where_a_field_says_so() -> None:
    a, b = Inner(1.0), Inner(2.0)
    left, right = Ordered({"a": a, "b": b}, {"x": 1.0, "y": 2.0}), Ordered({"b": b, "a": a}, {"y": 2.0, "x": 1.0})
    assert identity(left)["stages"] == [["a", {"rate": 1.0}], ["b", {"rate": 2.0}]]
    assert differences(left, right) == {"stages": (["a", "b"], ["b", "a"])}
    assert plain(left) == plain(right) and differences(plain(left), plain(right)) == {}
    more = replace(right, stages={"b": b, "c": Inner(0.0), "a": replace(a, steps=9)})
    assert differences(left, more) == {
        "stages": (["a", "b"], ["b", "c", "a"]),
        "stages.a.steps": (3, 9),
        "stages.c": (None, {"rate": 0.0, "steps": 3}),
    }


def test_a_retired_field_is_read_at_its_default_only() -> None:
    assert build(Ordered, {"stages": {}, "old": 1.5}) == Ordered({})
    with pytest.raises(ValueError, match=r"old=2.0 is of a field that was removed at 1.5; use the code that wrote it"):
        build(Ordered, {"stages": {}, "old": 2.0})
