"""Duplicates: what counts as equal and as near, groups, order, and the same answer however the work is divided."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_core.data.curation import duplicates
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.curation.duplicates import Bands, choose_bands, find_duplicates, signature, signature_width
from ettin_core.foundation.errors import UserError

EXACT = CurationConfig(exact_duplicates=True)
NEAR = CurationConfig(near_duplicates=0.75)
BOTH = CurationConfig(exact_duplicates=True, near_duplicates=0.75)
FEW_BANDS = CurationConfig(exact_duplicates=True, near_duplicates=0.95)


@pytest.fixture
def datasketch() -> Any:
    """The library, where it is installed."""
    return pytest.importorskip("datasketch")


def words(seed: int, count: int = 200) -> list[str]:
    """Random words, the same each time."""
    chooser = random.Random(seed)
    return [f"word{chooser.randrange(10**6)}" for _ in range(count)]


def near(original: list[str], changes: int, seed: int = 0) -> list[str]:
    """The words with so many of them replaced, 5 apart or more, so that each change costs 5 shingles."""
    changed = list(original)
    for place in range(changes):
        changed[2 + 5 * place] = f"other{seed}x{place}"
    return changed


def jaccard(left: list[str], right: list[str]) -> float:
    """The similarity of the sets of 5-grams."""
    first, second = ({tuple(text[place : place + 5]) for place in range(len(text) - 4)} for text in (left, right))
    return len(first & second) / len(first | second)


def duplicates_of(texts: list[str], config: CurationConfig) -> dict[int, str]:
    """The duplicates among texts of one part."""
    return find_duplicates([np.stack([signature(text, config) for text in texts])], config)[0]


def test_the_width_is_one_key_and_one_per_band() -> None:
    assert [signature_width(config) for config in (CurationConfig(), EXACT, NEAR, BOTH)] == [0, 1, 14, 15]
    keys = signature("Some text.", EXACT)
    assert (keys.shape, keys.dtype) == ((1,), np.uint64)
    assert signature("Some text.", CurationConfig()).shape == (0,)


def test_exact_duplicates_differ_in_case_and_white_space_only() -> None:
    texts = ["A b, c.", "a  B,\n\tC. ", "a b c.", "ab, c.", "A b, c."]
    assert duplicates_of(texts, EXACT) == {1: "exact_duplicate", 4: "exact_duplicate"}


def test_nothing_is_a_duplicate_when_no_step_is_named() -> None:
    parts = [np.empty((3, 0), np.uint64), np.empty((2, 0), np.uint64)]
    assert find_duplicates(parts, CurationConfig()) == [{}, {}]
    assert find_duplicates([], BOTH) == []


def test_case_and_punctuation_do_not_count_for_near_duplicates(datasketch: Any) -> None:
    text = " ".join(words(1))
    assert duplicates_of([text, text.upper().replace(" ", ", "), text + "!"], NEAR) == {
        1: "near_duplicate",
        2: "near_duplicate",
    }


def test_a_document_that_is_equal_is_called_so_even_in_a_group_of_near_ones(datasketch: Any) -> None:
    original = words(2)
    texts = [" ".join(original), " ".join(near(original, 1)), " ".join(near(original, 1)).upper()]
    assert duplicates_of(texts, BOTH) == {1: "near_duplicate", 2: "exact_duplicate"}


def test_groups_are_transitive_and_keep_the_first(datasketch: Any) -> None:
    chain = [words(3)]
    for step in range(6):
        chain.append(chain[-1][20:] + words(100 + step, 20))
    assert min(map(jaccard, chain, chain[1:])) > 0.75 and jaccard(chain[0], chain[-1]) < 0.3
    texts = [" ".join(document) for document in chain]
    assert 1 not in duplicates_of([texts[0], texts[-1]], NEAR)
    assert set(duplicates_of(texts, NEAR)) == {1, 2, 3, 4, 5, 6}
    assert set(duplicates_of([texts[3], texts[6], texts[0], *texts[1:3], *texts[4:6]], NEAR)) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("short", [["a", "b"], ["a b", "b a"], ["a b c d", "a b c", "b c d"], ["!!", "?"], ["", "."]])
def test_different_short_documents_are_not_near(short: list[str], datasketch: Any) -> None:
    assert duplicates_of(short, NEAR) == {}
    assert duplicates_of([*short, *short], NEAR) == {
        len(short) + place: "near_duplicate" for place in range(len(short))
    }


def test_many_short_documents_do_not_collide(datasketch: Any) -> None:
    assert duplicates_of([f"page {number}" for number in range(3000)], NEAR) == {}


@pytest.mark.parametrize("changes, similar", [(1, True), (2, True), (14, False), (25, False)])
def test_planted_pairs_far_from_the_threshold_are_distinguished(changes: int, similar: bool, datasketch: Any) -> None:
    pairs = [(words(seed), near(words(seed), changes, seed)) for seed in range(60)]
    similarities = [jaccard(*pair) for pair in pairs]
    assert min(similarities) > 0.9 if similar else max(similarities) < 0.5
    texts = [" ".join(text) for pair in pairs for text in pair]
    expected = {2 * number + 1: "near_duplicate" for number in range(60)}
    if similar:
        assert duplicates_of(texts, NEAR) == expected
    else:
        assert len(duplicates_of(texts, NEAR)) <= 60 * 5 * choose_bands(0.75).probability(max(similarities))
        assert set(duplicates_of(texts, NEAR)) <= set(expected)


@pytest.mark.parametrize("changes", [4, 6, 8])
def test_pairs_near_the_threshold_are_found_as_often_as_the_curve_says(changes: int, datasketch: Any) -> None:
    pairs = [(words(seed), near(words(seed), changes, seed)) for seed in range(150)]
    expected = np.array([choose_bands(0.75).probability(jaccard(*pair)) for pair in pairs])
    count = len(duplicates_of([" ".join(text) for pair in pairs for text in pair], NEAR))
    assert abs(count - expected.sum()) < 4 * np.sqrt((expected * (1 - expected)).sum()) + 1


def test_bands_agree_with_the_librarys_own_index(datasketch: Any) -> None:
    base = words(7, 120)
    texts = [" ".join(near(base, changes, changes)) for changes in range(20)]
    division = choose_bands(0.75)
    index = datasketch.MinHashLSH(num_perm=112, params=tuple(division))
    hashes = []
    for number, text in enumerate(texts):
        minhash = datasketch.MinHash(num_perm=112, seed=duplicates.SEED, hashfunc=int, scheme="affine64")
        minhash.update_batch(duplicates._shingles(text).tolist())
        index.insert(number, minhash)
        hashes.append(minhash)
    keys = np.stack([signature(text, NEAR) for text in texts])
    for number, minhash in enumerate(hashes):
        shared = {int(match) for match in np.flatnonzero((keys == keys[number]).any(axis=1))}
        assert shared == set(index.query(minhash))
        estimate = hashes[0].jaccard(minhash)
        assert abs(estimate - jaccard(texts[0].split(), texts[number].split())) < 0.2


def test_the_published_division_and_its_curve() -> None:
    assert choose_bands(0.75) == Bands(14, 8)
    assert [round(Bands(14, 8).probability(s), 2) for s in (0.7, 0.75, 0.8, 0.85)] == [0.56, 0.77, 0.92, 0.99]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.3, 0.99))
def test_every_similarity_has_a_division_of_about_as_many_values(similarity: float) -> None:
    bands, rows = choose_bands(similarity)
    assert 112 <= bands * rows <= 128
    assert Bands(bands, rows).probability(similarity) > 0.5
    assert Bands(bands, rows).probability(similarity - 0.25) < 0.35


def brute_force(keys: np.ndarray) -> dict[int, str]:
    """Groups by comparing every pair of documents, until nothing changes."""
    first = list(range(len(keys)))
    equal = [[bool((left == right).any()) for right in keys] for left in keys]
    for _ in keys:
        first = [min(first[right] for right in range(len(keys)) if equal[left][right]) for left in range(len(keys))]
    exact = {number for number in range(len(keys)) if keys[number, 0] in keys[:number, 0]}
    return {n: "exact_duplicate" if n in exact else "near_duplicate" for n in range(len(keys)) if first[n] != n}


def together(parts: list[dict[int, str]], sizes: list[int]) -> dict[int, str]:
    """What was found in parts, numbered through."""
    starts = np.cumsum([0, *sizes])
    return {
        int(start) + number: reason
        for start, part in zip(starts, parts, strict=False)
        for number, reason in part.items()
    }


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(8, 150), st.lists(st.integers(0, 30)), st.integers(1, 9))
def test_groups_do_not_depend_on_parts_or_memory(
    seed: int, documents: int, kinds: int, cuts: list[int], most: int
) -> None:
    width = signature_width(FEW_BANDS)
    keys = np.random.default_rng(seed).integers(0, kinds, (documents, width)).astype(np.uint64)
    keys[:, 0] *= np.uint64(2**63 // kinds)
    edges = [0, *sorted(min(cut, documents) for cut in cuts), documents]
    parts = [keys[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
    expected = brute_force(keys)
    assert find_duplicates([keys], FEW_BANDS) == [expected]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "MAX_ENTRIES", most)
        assert together(find_duplicates(parts, FEW_BANDS), [len(part) for part in parts]) == expected


def test_no_more_entries_than_allowed_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    merge = duplicates._merge

    def counting(seen: Any, waiting: Any) -> Any:
        held.append(len(seen[0]) + sum(len(keys) for keys, _ in waiting))
        return merge(seen, waiting)

    keys = np.random.default_rng(0).integers(0, 2**63, (4000, 1)).astype(np.uint64)
    keys[1000:2500] = keys[7]
    monkeypatch.setattr(duplicates, "_merge", counting)
    monkeypatch.setattr(duplicates, "MAX_ENTRIES", 400)
    result = find_duplicates([keys[:100], keys[100:3000], keys[3000:]], EXACT)
    assert [len(part) for part in result] == [0, 1500, 0]
    assert 200 < max(held) <= 1.2 * 400


def test_signatures_may_be_in_files(tmp_path: Path) -> None:
    keys = np.array([[5], [6], [5]], dtype=np.uint64)
    keys.tofile(tmp_path / "keys")
    parts = [np.memmap(tmp_path / "keys", np.uint64, "r", shape=(3, 1)), keys[1:2]]
    assert find_duplicates(parts, EXACT) == [{2: "exact_duplicate"}, {0: "exact_duplicate"}]


def test_numbers_are_plain(datasketch: Any) -> None:
    (number, reason), *_ = duplicates_of(["a", "a"], BOTH).items()
    assert (type(number), type(reason)) == (int, str)


def test_long_documents_are_hashed_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, datasketch: Any
) -> None:
    text = " ".join(words(9, 500))
    whole = signature(text, NEAR)
    monkeypatch.setattr(duplicates, "SHINGLES_AT_ONCE", 7)
    assert (signature(text, NEAR) == whole).all()


def test_signatures_are_the_same_in_every_process(datasketch: Any) -> None:
    program = (
        "from ettin_core.data.curation.config import CurationConfig\n"
        "from ettin_core.data.curation.duplicates import signature\n"
        "config = CurationConfig(exact_duplicates=True, near_duplicates=0.75)\n"
        "print(signature('The quick brown fox jumps over \\u00e9t\\u00e9, the lazy dog.', config).tolist())"
    )
    run = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    expected = signature("The quick brown fox jumps over \u00e9t\u00e9, the lazy dog.", BOTH).tolist()
    assert run == {f"{expected}\n"}


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    duplicates._empty_minhash.cache_clear()
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UserError, match=r'near_duplicates needs datasketch.*-e "\.\[curation\]"'):
        signature("Some text.", NEAR)
    assert len(signature("Some text.", EXACT)) == 1
