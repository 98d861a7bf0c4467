"""Preparation: the same input gives the same bytes for any number of workers, any change gives another fingerprint."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from ettin_core.data import tokenizer as tokenizer_module
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.documents import SPLITS
from ettin_core.data.importers import json_lines as json_lines_module
from ettin_core.data.preparation import prepare as preparation
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.preparation.worker_pool import WorkerDied
from ettin_core.data.tokenizer import Tokenizer, train
from ettin_core.foundation.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["The baker sold bread.", "The smith made a ring.", "A cat slept in the sun."]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder that does not depend on the corpus."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train(TEXTS, 300, folder)
    return folder


def write_rows(file: Path, rows: list[Any]) -> None:
    """Rows as JSON lines; a row that is a text is a line as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    content = "".join(line + "\n" for line in lines).encode()
    if file.suffix == ".gz":
        content = gzip.compress(content)
    if file.suffix == ".zst":
        content = zstandard.ZstdCompressor().compress(content)
    file.write_bytes(content)


def write_texts(folder: Path, texts: list[Any]) -> Path:
    """Three files of one source, `books`: the texts are its train split."""
    for split, content in (("train", texts), ("validation", ["Held out."]), ("test", ["Also held out."])):
        rows = [{"id": f"{split}{number}", "text": text} for number, text in enumerate(content)]
        write_rows(folder / f"books.{split}.jsonl", rows)
    return folder


def config_of(folder: Path, **options: Any) -> DataConfig:
    """A text corpus of a small vocabulary."""
    given: dict[str, Any] = {"kind": "text", "name": "mine", "path": str(folder), "vocab_size": 300}
    return DataConfig(**given | options)


def prepared(folder: Path, texts: list[Any], **options: Any) -> Corpus:
    """A corpus of three named files, prepared in a fresh folder."""
    return prepare(config_of(write_texts(folder / "in", texts), **options), folder, 1)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but what users of a corpus note in it later."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(("verified.json", "rows/"))}


def texts_of(corpus: Corpus, split: str = "train") -> list[str]:
    """The documents of a split."""
    return [corpus.tokenizer.decode(ids[1:-1]) for ids in corpus.documents(split)]


def visible(folder: Path) -> list[str]:
    """What lies in a folder, locks and inputs aside."""
    return sorted(set(os.listdir(folder)) - {".locks", "in"})


# --- the same bytes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several sources and kinds of files; one is large enough to be read in ranges, which fall into lines."""
    folder = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(0)
    words = [bytes(draw.integers(97, 123, size, dtype=np.uint8)).decode() for size in draw.integers(1, 9, 3000)]

    def text(size: int) -> str:
        return " ".join(draw.choice(words, size).tolist())

    for name in ("books.train-00.jsonl", "books.train-01.jsonl.gz", "books.validation.jsonl.zst", "web.dev.jsonl"):
        write_rows(folder / name, [{"id": f"{name}{n}", "text": text(int(draw.integers(1, 200)))} for n in range(80)])
    (folder / "notes.train.txt").write_text("\n\n".join(text(50) for _ in range(40)))
    (folder / "notes.test.txt.gz").write_bytes(gzip.compress("\n\n".join(text(50) for _ in range(9)).encode()))
    filler = "x" * 50_000
    rows = [{"text": text(60), "filler": filler[: int(draw.integers(50_000))]} for _ in range(800)] + ["", "  "]
    write_rows(folder / "large.train.jsonl", rows)
    return folder


def test_any_number_of_workers_gives_the_same_bytes(many: Path, tmp_path: Path) -> None:
    config = config_of(many, separator="\n\n", tokenizer_sample_mb=0.1)
    large = make_plan(config).source("large").pieces
    assert len(large) > 1
    for piece in large[1:]:
        with open(piece.place, "rb") as file:
            file.seek(piece.begin - 1)
            assert file.read(1) != b"\n"  # a document lies across the edge
    corpora = {}
    for workers in (1, 2, 3):
        reports: list[tuple[str, float, float, int]] = []
        corpus = prepare(
            config, tmp_path / str(workers), workers, lambda *report, reports=reports: reports.append(report)
        )
        corpora[workers] = corpus
        check_reports(reports, corpus)
    assert {corpus.fingerprint for corpus in corpora.values()} == {corpora[1].fingerprint}
    assert contents(corpora[1].folder) == contents(corpora[2].folder) == contents(corpora[3].folder)
    corpora[3].verify()
    entries = corpora[1].manifest["sources"]
    counts = {name: [entries[name][split]["documents"] for split in SPLITS] for name in entries}
    assert counts == {"books": [160, 80, 0], "large": [800, 0, 0], "notes": [40, 0, 9], "web": [0, 80, 0]}
    assert texts_of(corpora[3]) == texts_of(corpora[1])


def check_reports(reports: list[tuple[str, float, float, int]], corpus: Corpus) -> None:
    """Progress of each stage goes from nothing to all, never back, and counts every document."""
    counted = sum(entry["documents"] for splits in corpus.manifest["sources"].values() for entry in splits.values())
    assert list(dict.fromkeys(report[0] for report in reports)) == ["held_out", "tokens"]
    for stage in ("held_out", "tokens"):
        _, done, total, documents = zip(*(report for report in reports if report[0] == stage), strict=True)
        assert len(set(total)) == 1 and all(0 <= now <= total[0] for now in done)
        assert done[0] == 0 and done[-1] == total[0] and list(documents) == sorted(documents)
        assert documents[0] == 0 and documents[-1] <= counted


def test_ranges_are_joined_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"document number {number}" for number in range(200)]
    whole = prepared(tmp_path / "whole", texts)
    monkeypatch.setattr(json_lines_module, "_RANGE", 100)
    monkeypatch.setattr("ettin_core.data.preparation.partitions.MERGE_BYTES", 700)
    cut = prepared(tmp_path / "cut", texts)
    assert len(cut.manifest["sources"]["books"]["train"]["shards"]) > 10
    assert texts_of(cut) == texts_of(whole) == texts
    summary = {key: value for key, value in cut.manifest["sources"]["books"]["train"].items() if key != "shards"}
    assert whole.manifest["sources"]["books"]["train"] | summary == whole.manifest["sources"]["books"]["train"]


def test_preparing_twice_from_scratch_gives_the_same_bytes(
    world_config: DataConfig, corpus: Corpus, tmp_path: Path
) -> None:
    again = prepare(world_config, tmp_path, 1)
    assert again.name == corpus.name and again.fingerprint == corpus.fingerprint
    assert contents(again.folder) == contents(corpus.folder)


def test_the_small_world_is_the_one_it_always_was(corpus: Corpus) -> None:
    assert corpus.tokens("world", "train") == 117007
    assert corpus.manifest["sources"]["world"]["train"]["shards"][0]["sha256"] == (
        "d38ee0bf4b22cd695ea34b3ed5c01c7b2ab46a0522ea06ed92dad89abd2885f2"
    )


def test_a_world_in_several_ranges_is_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Corpus
) -> None:
    monkeypatch.setattr("ettin_core.data.importers.world._RANGE", 400)
    monkeypatch.setattr("ettin_core.data.preparation.partitions.MERGE_BYTES", 1)
    config = DataConfig(kind="world", name="world", documents=1500, tokenizer=str(corpus.tokenizer.folder))
    ranges = prepare(config, tmp_path, 1)
    left, right = (item.manifest["sources"]["world"]["train"] for item in (ranges, corpus))
    assert len(left["shards"]) == 4
    assert texts_of(ranges) == texts_of(corpus)
    assert left["log_probability"] == pytest.approx(right["log_probability"], rel=1e-12)


def test_text_prepared_twice_in_two_places_is_the_same_corpus(tmp_path: Path) -> None:
    first, second = prepared(tmp_path / "one", TEXTS), prepared(tmp_path / "other", TEXTS)
    assert first.name == second.name and contents(first.folder) == contents(second.folder)


def test_a_prepared_corpus_is_opened_and_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(tmp_path, TEXTS)
    monkeypatch.setattr(preparation, "_build", lambda *arguments: pytest.fail("prepared again"))
    monkeypatch.setattr(preparation, "locked", lambda *arguments: pytest.fail("wrote where it may be read-only"))
    assert prepare(config_of(tmp_path / "in"), tmp_path).folder == first.folder


# --- names


def test_one_character_or_the_order_changes_the_fingerprint(tmp_path: Path, tokenizer: Path) -> None:
    variants = [
        TEXTS,
        [TEXTS[0], TEXTS[1].replace("m", "n", 1), TEXTS[2]],
        TEXTS[::-1],
        TEXTS[:2],
        [TEXTS[0] + TEXTS[1], TEXTS[2]],
    ]
    corpora = [
        prepared(tmp_path / str(number), texts, tokenizer=str(tokenizer)) for number, texts in enumerate(variants)
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(variants)
    assert len({corpus.name for corpus in corpora}) == len(variants)


def test_the_tokenizer_changes_the_fingerprint(tmp_path: Path, tokenizer: Path) -> None:
    altered = shutil.copytree(tokenizer, tmp_path / "other")
    with (altered / "tokenizer.json").open("a") as file:
        file.write("\n")  # the same ids, but another file: nobody has to argue whether it is the same tokenizer
    first = prepared(tmp_path / "one", TEXTS, tokenizer=str(tokenizer))
    second = prepared(tmp_path / "two", TEXTS, tokenizer=str(altered))
    assert first.manifest["sources"] == second.manifest["sources"]
    assert first.fingerprint != second.fingerprint and first.name != second.name


def test_the_roles_of_special_tokens_change_the_fingerprint(tmp_path: Path, tokenizer: Path) -> None:
    altered = shutil.copytree(tokenizer, tmp_path / "other")
    roles = json.loads((altered / "tokenizer_config.json").read_text())
    (altered / "tokenizer_config.json").write_text(json.dumps(roles | {"bos_token": "[UNK]"}))
    first = prepared(tmp_path / "one", TEXTS, tokenizer=str(tokenizer))
    second = prepared(tmp_path / "two", TEXTS, tokenizer=str(altered))
    assert first.documents("train")[0][0] != second.documents("train")[0][0]
    assert first.fingerprint != second.fingerprint and first.name != second.name


def name_of(folder: Path, **options: Any) -> str:
    """The content name, without preparing."""
    return make_plan(config_of(folder, **options)).corpus_name


def test_where_things_are_stored_and_how_often_they_may_be_read_is_not_the_name(
    tmp_path: Path, tokenizer: Path
) -> None:
    first, second = write_texts(tmp_path / "one", TEXTS), write_texts(tmp_path / "two" / "deeper", TEXTS)
    copy = shutil.copytree(tokenizer, tmp_path / "tokenizer")
    assert name_of(first) == name_of(second) == name_of(first, mixtures={"pretrain": {"books": 3}, "decay": None})
    assert name_of(first, tokenizer=str(tokenizer)) == name_of(second, tokenizer=str(copy)) != name_of(first)
    assert (
        name_of(first)
        == name_of(first, sources={"books": {"path": "."}})
        == name_of(second.parent, sources={"books": {"path": "deeper"}})
    )


@pytest.mark.parametrize(
    "options",
    [
        {"curation": CurationConfig(exact_duplicates=True)},
        {"curation": CurationConfig(rules=("c4",))},
        {"vocab_size": 301},
        {"documents": 1},
        {"at_least": {"q": 1}},
        {"text_field": "id"},
        {"on_bad": "skip"},
        {"sources": {"tomes": {}}},
        {"sources": {"books": {}, "more": {"files": "*train*"}}},
        {"sources": {"books": {"documents": 1}}},
    ],
    ids=str,
)
def test_what_decides_the_tokens_is_the_name(options: dict[str, Any], tmp_path: Path) -> None:
    folder = write_texts(tmp_path, TEXTS)
    assert name_of(folder, **options) != name_of(folder)


@pytest.mark.parametrize("place", [0, 2**19, 2**20 - 1])
def test_a_changed_byte_anywhere_is_another_name(place: int, tmp_path: Path) -> None:
    names = set()
    for letter in (b"a", b"b"):
        folder = tmp_path / letter.decode()
        folder.mkdir()
        content = bytearray(b"x" * 2**20)
        content[place : place + 1] = letter
        (folder / "a.train.txt").write_bytes(content)
        names.add(name_of(folder))
    assert len(names) == 2


# --- the tokenizer beside the corpus


def test_a_given_tokenizer_is_copied_beside_the_corpus(tmp_path: Path, tokenizer: Path) -> None:
    corpus = prepared(tmp_path, TEXTS, tokenizer=str(tokenizer))
    assert contents(corpus.folder / "tokenizer") == contents(tokenizer)


def test_ids_are_stored_in_two_bytes_or_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Path) -> None:
    small = prepared(tmp_path / "small", TEXTS, tokenizer=str(tokenizer))
    size = tokenizer_module.BackendTokenizer.get_vocab_size

    class Large(Tokenizer):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            self.vocab_size = size(self.backend) + 2**16

    for module in ("prepare", "worker", "plan"):
        monkeypatch.setattr(f"ettin_core.data.preparation.{module}.Tokenizer", Large)
    large = prepared(tmp_path / "large", TEXTS, tokenizer=str(tokenizer))
    assert (small.manifest["dtype"], large.manifest["dtype"]) == ("<u2", "<u4")
    for left, right in zip(small.documents("train"), large.documents("train"), strict=True):
        assert left.tolist() == right.tolist()


class Interrupted(BaseException):
    """Stops a preparation as Ctrl-C does."""


def interrupted(config: DataConfig, folder: Path, share: float = 0.3) -> Path:
    """Stop a preparation after a share of the work; returns its folder."""

    def stop(stage: str, done: float, total: float, documents: int) -> None:
        if stage == "tokens" and done > share * total:
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare(config, folder, 1, stop)
    (building,) = folder.glob(".*.building")
    assert [*building.glob("parts/*.json")]
    return building


def several(folder: Path, count: int = 6) -> Path:
    """Sources of different sizes."""
    for number in range(count):
        rows = [{"text": f"source {number} document {n} " + "word " * 30} for n in range(50 * (number + 1))]
        write_rows(folder / f"s{number}.train.jsonl", rows)
    write_rows(folder / "s0.validation.jsonl", [{"text": "held out"}])
    return folder


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    config = config_of(several(tmp_path / "in"))
    undisturbed = prepare(config, tmp_path / "undisturbed", 1)
    building = interrupted(config, tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in building.glob("*.bin")}
    entries = len([*building.glob("parts/*.json")])
    reports: list[tuple[str, float, float, int]] = []
    corpus = prepare(config, tmp_path, 1, lambda *report: reports.append(report))
    assert 0 < entries < 6 and reports[0][1] > 0  # the bar begins at the work done
    assert before == {name: (corpus.folder / name).stat().st_mtime_ns for name in before}
    assert contents(corpus.folder) == contents(undisturbed.folder)
    assert visible(tmp_path) == sorted(["undisturbed", corpus.name])


def test_parts_of_another_tokenizer_are_not_mixed_in(tmp_path: Path) -> None:
    config = config_of(several(tmp_path / "in"))
    undisturbed = prepare(config, tmp_path / "undisturbed", 1)
    building = interrupted(config, tmp_path)
    train(["quite another text, whose words are other words"] * 9, 320, building / "tokenizer")
    replaced = Tokenizer(building / "tokenizer").hash
    corpus = prepare(config, tmp_path, 1)
    assert corpus.tokenizer.hash == replaced != undisturbed.tokenizer.hash
    for split in ("train", "validation"):
        assert texts_of(corpus, split) == texts_of(undisturbed, split)
    corpus.verify()


def test_a_kill_at_the_very_end_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(several(tmp_path / "in"))
    undisturbed = prepare(config, tmp_path / "undisturbed", 1)

    def killed(*arguments: Any) -> None:
        raise Interrupted

    for moment in ("_clear_away", "remove_folder"):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(preparation, moment, killed)
            prepare(config, tmp_path, 1)
    (building,) = tmp_path.glob(".*.building")
    before = {file.name: file.stat().st_mtime_ns for file in building.glob("*.bin")}
    corpus = prepare(config, tmp_path, 1)
    assert before == {file.name: file.stat().st_mtime_ns for file in corpus.folder.glob("*.bin")} != {}
    assert contents(corpus.folder) == contents(undisturbed.folder)


def test_a_finished_part_whose_shard_is_gone_is_done_again(tmp_path: Path) -> None:
    config = config_of(several(tmp_path / "in"))
    undisturbed = prepare(config, tmp_path / "undisturbed", 1)
    building = interrupted(config, tmp_path)
    next(building.glob("*.bin")).unlink()
    assert contents(prepare(config, tmp_path, 1).folder) == contents(undisturbed.folder)


def test_a_folder_that_lost_its_manifest_is_prepared_again(tmp_path: Path) -> None:
    first = prepared(tmp_path, TEXTS)
    before = contents(first.folder)
    (first.folder / "manifest.json").unlink()
    (first.folder / "stray").write_text("x")
    assert contents(prepare(config_of(tmp_path / "in"), tmp_path, 1).folder) == before
    assert visible(tmp_path) == [first.name]


def test_a_worker_that_died_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(several(tmp_path / "in"))
    building = interrupted(config, tmp_path)
    before = contents(building)

    def die(*arguments: Any) -> None:
        raise WorkerDied("the worker for part s1.00000 died.")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="died"):
        patch.setattr(preparation, "run_stage", die)
        prepare(config, tmp_path, 2)
    assert {name: content for name, content in contents(building).items() if name != "plan.json"} == {
        name: content for name, content in before.items() if name != "plan.json"
    }


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_in_the_middle_shows_no_folder_and_can_be_continued(
    error: type[BaseException], tmp_path: Path
) -> None:
    def interrupt(stage: str, done: float, total: float, documents: int) -> None:
        if documents:
            raise error

    config = DataConfig(kind="world", name="w", documents=1000, vocab_size=300)
    with pytest.raises(error):
        prepare(config, tmp_path, 1, interrupt)
    name = make_plan(config).corpus_name
    assert visible(tmp_path) == [f".{name}.building"]
    assert not [*tmp_path.rglob("*.tmp")]
    assert prepare(config, tmp_path, 1).name == name
    assert visible(tmp_path) == [name]


# --- what the manifest says


def test_the_manifest_says_what_was_read_and_what_was_left_out(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one", "q": 9},
        {"id": "b", "text": "", "q": 9},
        {"id": "c", "text": "zwölf", "q": 9},
        {"id": "d", "text": "poor", "q": 1},
        {"id": "e", "text": "poorer", "q": 0.5},
        {"id": "f", "content": "odd"},
        "no JSON",
        {"id": "g", "text": "one", "q": 9},
    ]
    write_rows(tmp_path / "in" / "books.train.jsonl", rows)
    write_rows(tmp_path / "in" / "books.validation.jsonl", [{"text": "held out", "q": 5}])
    curation = CurationConfig(exact_duplicates=True)
    config = config_of(tmp_path / "in", at_least={"q": 2}, on_bad="skip", licence="CC0", curation=curation)
    corpus = prepare(config, tmp_path / "out", 1)
    entry = corpus.manifest["sources"]["books"]["train"]
    assert (entry["documents"], entry["bytes"]) == (2, len("one" + "zwölf") + 1)
    assert entry["tokens"] == sum(map(len, corpus.documents("train")))
    assert sum(entry["lengths"]) == 2 and entry["log_probability"] is None
    reading = corpus.manifest["reading"]["books"]
    assert (reading["kind"], reading["licence"]) == ("text", "CC0")
    assert reading["identity"] == make_plan(config).source("books").identity
    assert reading["curation"]["exact_duplicates"] is True
    assert reading["skipped"] == {"empty": 1, "q_below_2": 2, "missing_field": 1, "not_json": 1, "exact_duplicate": 1}
    assert reading["samples"] == {
        "empty": [{"id": "b", "text": ""}],
        "q_below_2": [{"id": "d", "text": "poor"}, {"id": "e", "text": "poorer"}],
        "missing_field": [{"id": reading["samples"]["missing_field"][0]["id"], "text": json.dumps(rows[5])}],
        "not_json": [{"id": reading["samples"]["not_json"][0]["id"], "text": "no JSON\n"}],
        "exact_duplicate": [{"id": "g", "text": "one"}],
    }
    assert texts_of(corpus) == ["one", "zwölf"]
    assert corpus.manifest["config"]["path"] is None


def test_every_way_of_being_bad_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_rows(folder / "fine.train.jsonl", [{"text": f"fine {n}"} for n in range(9)])
    write_rows(folder / "fine.validation.jsonl", [{"text": "fine"}])
    good = gzip.compress(b'{"text": "in the archive"}\n' * 2000)
    (folder / "cut.train.jsonl.gz").write_bytes(good[:-9])
    packed = zstandard.ZstdCompressor().compress(os.urandom(10_000).hex().encode())
    (folder / "cutzst.train.txt.zst").write_bytes(packed[:-9])
    (folder / "garbage.train.jsonl.gz").write_bytes(b"garbage")
    (folder / "garbagezst.train.jsonl.zst").write_bytes(b"garbage")
    (folder / "empty.train.jsonl").write_bytes(b"")
    (folder / "latin.train.txt").write_bytes("Ärger".encode("latin-1"))
    lines = [b"{", b"[1]", b'{"t": 1}', b'{"text": 1}', b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'{"text": ""}']
    (folder / "lines.train.jsonl").write_bytes(b"\n".join(lines))
    expected = {
        "fine": {},
        "cut": {"damaged_file": 1},
        "cutzst": {"damaged_file": 1},
        "garbage": {"damaged_file": 1},
        "garbagezst": {"damaged_file": 1},
        "empty": {"empty_file": 1},
        "latin": {"invalid_text": 1},
        "lines": {"not_json": 1, "missing_field": 3, "invalid_text": 2, "empty": 1},
    }
    with pytest.raises(UserError, match="is cut short or damaged .* or set data.on_bad=skip to count and leave out"):
        prepare(config_of(folder), tmp_path / "out", 1)
    corpora = [prepare(config_of(folder, on_bad="skip"), tmp_path / str(workers), workers) for workers in (1, 2)]
    assert contents(corpora[0].folder) == contents(corpora[1].folder)
    reading = corpora[0].manifest["reading"]
    assert {name: entry["skipped"] for name, entry in reading.items()} == expected
    for name, counts in expected.items():
        assert {reason: len(samples) for reason, samples in reading[name]["samples"].items()} == counts
    assert texts_of(corpora[0], "train").count("in the archive") == 2000


def test_a_filtered_copy_beside_the_raw_one_keeps_what_is_good(tmp_path: Path) -> None:
    rows = [{"id": f"{q}", "text": f"of quality {q}", "q": q} for q in range(60, 100)]
    write_rows(tmp_path / "in" / "a.train.jsonl", rows)
    write_rows(tmp_path / "in" / "a.validation.jsonl", rows[30:32])
    sources = {"raw": {}, "good": {"at_least": {"q": 85}}, "few": {"documents": 3}}
    mixtures = {"pretrain": {"raw": 1.0}, "decay": {"raw": 1.0, "good": 3.0}}
    corpus = prepare(config_of(tmp_path / "in", sources=sources, mixtures=mixtures), tmp_path / "out", 1)
    assert corpus.sources == ["few", "good", "raw"]
    counts = {name: corpus.manifest["sources"][name]["train"]["documents"] for name in corpus.sources}
    assert counts == {"few": 3, "good": 13, "raw": 38}
    reading = corpus.manifest["reading"]
    assert reading["good"]["skipped"] == {"q_below_85": 25, "held_out_copy": 2}
    assert reading["raw"]["skipped"] == {"held_out_copy": 2}


def test_empty_documents_are_counted_and_left_out(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, ["", "one", " \n ", "two"])
    entry = corpus.manifest["sources"]["books"]["train"]
    assert (entry["documents"], entry["bytes"], entry["log_probability"]) == (2, 6, None)
    assert corpus.manifest["reading"]["books"]["skipped"] == {"empty": 2}
    assert texts_of(corpus) == ["one", "two"]


# --- what is refused


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers: int, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(config_of(write_texts(tmp_path / "in", TEXTS)), tmp_path / "out", workers)
    assert str(caught.value) == f"workers={workers} is not positive; give 1 or more, or null for one per core."


def test_a_folder_that_holds_no_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "in", TEXTS)
    with pytest.raises(UserError, match=r"data\.tokenizer='.*/in' holds no tokenizer\.json; give a folder saved by"):
        prepare(config_of(folder, tokenizer=str(folder)), tmp_path / "out", 1)


def test_a_bad_line_far_inside_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="books.train.jsonl:902"):
        prepared(tmp_path, ["fine"] * 901 + [None])
    assert visible(tmp_path) == []


def test_a_source_without_validation_in_any_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "a.train.jsonl", [{"text": "x"}])
    write_rows(tmp_path / "in" / "a.validation.jsonl", [{"text": " "}])
    with pytest.raises(UserError) as caught:
        prepare(config_of(tmp_path / "in"), tmp_path, 1)
    assert str(caught.value).startswith(
        f"data={str(tmp_path / 'in')!r} gives no document for the validation split (left out: {{'a': {{'empty': 1}}}}); "
    )
    assert visible(tmp_path) == []


def test_one_text_file_without_a_separator_is_reported_with_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "book.txt").write_text("\n\n".join(f"Paragraph {number}." for number in range(500)))
    with pytest.raises(
        UserError,
        match=r"gives no document for the \w+ split \(documents 1, distinct ids 1, and the id decides the split\); give "
        r"more documents; .*data\.separator.*'\\n\\n'",
    ):
        prepare(config_of(tmp_path / "in", name="book"), tmp_path, 1)
    assert visible(tmp_path) == []
    entry = prepare(config_of(tmp_path / "in", name="book", separator="\\n\\n"), tmp_path, 1).manifest["sources"][
        "book"
    ]
    assert sum(part["documents"] for part in entry.values()) == 500


def test_equal_ids_are_reported_as_the_reason_for_an_empty_split(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "a.jsonl", [{"id": n % 2, "text": f"text {n}"} for n in range(300)])
    with pytest.raises(
        UserError, match=r"\(documents 300, distinct ids 2, and the id .*\); give each document its own id"
    ):
        prepare(config_of(tmp_path / "in"), tmp_path, 1)
    assert prepare(config_of(tmp_path / "in", id_field="no"), tmp_path, 1).documents("validation")


def test_a_split_that_no_name_states_is_reported_so(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "train-0.jsonl", [{"text": f"text {n}"} for n in range(300)])
    with pytest.raises(
        UserError, match=r"validation split \(the names state train only\); name some validation, as a file"
    ):
        prepare(config_of(tmp_path / "in"), tmp_path, 1)


# --- many files, large documents

FEW_FILES_OPEN = """
import resource, sys
from pathlib import Path
from ettin_core.data.config import DataConfig
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.preparation import partitions
from ettin_core.data.preparation.prepare import prepare
partitions.MERGE_BYTES = 1
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
curation = CurationConfig(exact_duplicates=True)
corpus = prepare(DataConfig(kind="text", path=sys.argv[1], vocab_size=300, curation=curation), Path(sys.argv[2]), 1)
corpus.verify()
print(corpus.manifest["reading"]["books"]["skipped"]["exact_duplicate"])
"""


def test_many_parts_need_few_open_files(tmp_path: Path) -> None:
    for number in range(80):
        write_rows(tmp_path / "in" / f"books.train-{number:02d}.jsonl", [{"text": f"number {number // 2}"}])
    write_rows(tmp_path / "in" / "books.validation.jsonl", [{"text": "held out"}])
    command = [sys.executable, "-c", FEW_FILES_OPEN, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "40\n", done.stderr


LARGE = 50_000_000
MEASURE = """
import resource, sys
from pathlib import Path
from ettin_core.data.config import DataConfig
from ettin_core.data.preparation.prepare import prepare
corpus = prepare(DataConfig(kind="text", name="mine", path=sys.argv[1], tokenizer=sys.argv[2]), Path(sys.argv[3]), 2)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, corpus.folder)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_documents_of_50_mb_need_little_memory(tmp_path: Path, tokenizer: Path) -> None:
    letters = np.random.default_rng(0).integers(97, 123, LARGE, dtype=np.uint8).tobytes()
    words = (b"the baker sold bread and wine, " * (LARGE // 31 + 1))[:LARGE]
    folder = write_texts(tmp_path / "in", TEXTS)
    for name, content in (("words", words), ("word", letters)):
        (folder / f"{name}.train.jsonl").write_bytes(b'{"text": "' + content + b'"}\n')
    command = [sys.executable, "-c", MEASURE, str(folder), str(tokenizer), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    memory, corpus_folder = done.stdout.split()
    assert int(memory) < 1.5 * 2**30
    corpus = Corpus(Path(corpus_folder))
    sizes = np.array([len(corpus.tokenizer.decode([token])) for token in range(corpus.tokenizer.vocab_size)])
    for name, content in (("words", words), ("word", letters)):
        entry = corpus.manifest["sources"][name]["train"]
        assert (entry["documents"], entry["bytes"]) == (1, LARGE)
        ids = corpus.stream(name, "train").read(1, entry["tokens"] - 1)
        assert sizes[ids].sum() == LARGE
        assert content.startswith(corpus.tokenizer.decode(ids[:100_000].tolist()).encode())
        assert content.endswith(corpus.tokenizer.decode(ids[-100_000:].tolist()).encode())


def test_a_sample_for_the_tokenizer_is_an_equal_share_of_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.train.jsonl", [{"text": "a" * 1000}] * 50)
    write_rows(tmp_path / "b.train.jsonl", [{"text": "b" * 300}] * 2)
    write_rows(tmp_path / "b.validation.jsonl", [{"text": "c" * 300}])
    plan = make_plan(config_of(tmp_path))
    sample = list(preparation._sample(plan, 0.005))
    assert [len(text) for text in sample] == [1000, 1000, 500, 300, 300]
    assert "".join(sample).count("c") == 0
    assert sum(map(len, preparation._sample(replace(plan, sources=plan.sources[:1]), 0.005))) == 5000


def test_the_peak_of_a_child_can_be_measured() -> None:
    """What the measurement above relies on: a child's memory is counted, and this small one's is not large."""
    subprocess.run([sys.executable, "-c", "x = bytearray(2**28)"], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 >= 2**28
