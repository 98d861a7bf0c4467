"""Preparation stopped at any moment, in any way, continues: the same bytes in the end, nothing left over, nothing twice."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.preparation.worker_pool import run_stage
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import write_json
from ettin_core.foundation.strict_config import plain
from tests import processes

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
SOURCES = 24
SCRIPT = """
import sys
from pathlib import Path
from ettin_core.data.config import DataConfig
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.errors import UserError
seen = []
config = DataConfig(
    kind="text", name="mine", path=sys.argv[1], vocab_size=300, tokenizer_sample_mb=0.1,
    curation=CurationConfig(exact_duplicates=True),
)
try:
    corpus = prepare(config, Path(sys.argv[2]), int(sys.argv[3]), lambda *report: seen.append(report))
except UserError as error:
    sys.exit(f"error: {error}")
print(corpus.fingerprint, len(seen))
"""

linux = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes under /proc")


def config_of(texts: Path) -> DataConfig:
    """The corpus that the script prepares."""
    curation = CurationConfig(exact_duplicates=True)
    return DataConfig(
        kind="text", name="mine", path=str(texts), vocab_size=300, tokenizer_sample_mb=0.1, curation=curation
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many sources of words that do not repeat, so that each takes its time."""
    folder = tmp_path_factory.mktemp("texts")
    draw = random.Random(0)
    for number in range(SOURCES):
        letters = iter(draw.choices("abcdefghijklmnopqrstuvwxyz", k=100_000))
        words = ["".join(letter for letter, _ in zip(letters, range(9), strict=False)) for _ in range(10_000)]
        lines = [
            f'{{"id": "{begin}", "text": "{" ".join(words[begin : begin + 50])}"}}\n' for begin in range(0, 10_000, 50)
        ]
        (folder / f"s{number:02d}.train.jsonl").write_text("".join([*lines, lines[0]]))
    (folder / "s00.validation.jsonl").write_text(lines[0])
    return folder


@pytest.fixture(scope="module")
def undisturbed(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus, prepared without a disturbance by one process."""
    return prepare(config_of(texts), tmp_path_factory.mktemp("undisturbed"), 1)


def start(texts: Path, root: Path, workers: int = 2) -> subprocess.Popen[str]:
    """A process that prepares the corpus."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(texts), str(root), str(workers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def begin(texts: Path, root: Path) -> processes.Process:
    """The same, forked: it is killed or ends by itself, and what Python does at Ctrl-C is not looked at."""
    return processes.Process(ROOT, lambda: print(prepare(config_of(texts), root, 2).fingerprint))


def finish(texts: Path, root: Path) -> str:
    """The fingerprint of a preparation that is let alone."""
    process = begin(texts, root)
    assert process.wait() == 0 and process.stderr == "", process.stderr
    return process.stdout.split()[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def check_whole(root: Path, undisturbed: Corpus) -> None:
    """The corpus under `root` is the undisturbed one, and nothing else lies there."""
    assert sorted(os.listdir(root)) == sorted([".locks", undisturbed.name])
    assert contents(root / undisturbed.name) == contents(undisturbed.folder)
    shards = [
        shard["file"]
        for splits in undisturbed.manifest["sources"].values()
        for entry in splits.values()
        for shard in entry["shards"]
    ]
    expected = {"manifest.json", *shards, *(name.replace(".bin", ".starts") for name in shards)}
    tokenizer = {f"tokenizer/{name}.json" for name in ("tokenizer", "tokenizer_config", "special_tokens_map")}
    assert set(contents(undisturbed.folder)) == expected | tokenizer
    Corpus(root / undisturbed.name).verify()


def finished_files(root: Path) -> list[Path]:
    """What is finished of parts, keys of held-out documents, signatures and duplicates."""
    names = ("parts/*.json", "held_out/parts/*.npy", "duplicates/*.train.npy", "duplicates/*.json")
    return [file for name in names for file in root.glob(f".*.building/{name}")]


def finished(root: Path) -> dict[str, int]:
    """The same with the time it was written."""
    return {f"{file.parent.name}/{file.name}": file.stat().st_mtime_ns for file in finished_files(root)}


def shard_times(folder: Path, parts: set[str]) -> dict[str, int]:
    """When the train shards of finished parts ("parts/s03.00000.json") were written."""
    files = [folder / f"{name[6:9]}.train-{name[10:15]}-000.bin" for name in parts if name.startswith("parts/")]
    return {file.name: file.stat().st_mtime_ns for file in files if file.exists()}


def workers_of(root: Path) -> list[int]:
    """Ids of the worker processes of preparations under `root`."""
    processes = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ettin_core.data.preparation.worker" in words and any(word.startswith(bytes(root)) for word in words):
            processes.append(int(file.parent.name))
    return processes


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def has_parts(root: Path) -> bool:
    """Whether a part is finished."""
    return bool([*root.glob(".*.building/parts/*.json")])


def has_no_workers(root: Path) -> bool:
    """Whether no worker is left."""
    return not workers_of(root)


def has_ended_or_finished(process: processes.Process, root: Path, count: int) -> bool:
    """Whether so much is finished, or all of it."""
    return process.poll() is not None or len(finished_files(root)) >= count


@linux
def test_killed_at_random_moments_it_ends_with_the_same_bytes(texts: Path, undisturbed: Corpus, tmp_path: Path) -> None:
    draw = random.Random(1)
    kills, rounds, kept = 0, 0, 0
    while kills < KILLS:
        rounds += 1
        root = tmp_path / str(rounds)
        before: dict[str, int] = {}
        times: dict[str, int] = {}
        while kills < KILLS:
            process = begin(texts, root)
            if draw.random() < 0.5:
                time.sleep(draw.uniform(0.0, 0.8))
            else:  # however slow this machine is, after some progress
                wait_for(partial(has_ended_or_finished, process, root, len(before) + 1))
                time.sleep(draw.uniform(0.0, 0.4))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            wait_for(partial(has_no_workers, root), 10.0)
            if not [*root.glob(".*.building")] or [*root.glob(".*.building/manifest.json")]:
                continue  # all was done, and parts are no longer needed
            after = finished(root)
            assert {name: after[name] for name in before} == before
            kept += len(before)
            before = after
            times |= shard_times(next(root.glob(".*.building")), set(after))
        assert finish(texts, root) == undisturbed.fingerprint
        check_whole(root, undisturbed)
        assert times == {name: (root / undisturbed.name / name).stat().st_mtime_ns for name in times}
    assert kept > 0  # some kills fell into the work


AT_EVERY_OPERATION = """
import os, signal, sys
from pathlib import Path
import tokenizers, numpy  # before the forks
import ettin_core.data.preparation.prepare as preparation
from ettin_core.data.config import DataConfig
from ettin_core.data.curation.config import CurationConfig

texts, top = sys.argv[1], Path(sys.argv[2])
config = DataConfig(kind="text", name="mine", path=texts, vocab_size=300, curation=CurationConfig(exact_duplicates=True))
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}

def child(root, last):
    count = 0
    def hook(event, arguments):
        nonlocal count
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wax"
        if event in CHANGES or writes:
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
    if last:
        sys.addaudithook(hook)
    preparation.prepare(config, root, 1)

def run(root, last):
    pid = os.fork()
    if pid == 0:
        try:
            child(root, last)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

last = 0
while True:
    last += 1
    status = run(top / str(last), last)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    assert run(top / str(last), 0) == 0
print(last)
"""


def test_killed_at_any_change_of_the_disk_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("a.train", "b.validation"):
        (texts / f"{name}.jsonl").write_text(f'{{"text": "one of {name}"}}\n{{"text": "two"}}\n{{"text": "two"}}\n')
    command = [sys.executable, "-c", AT_EVERY_OPERATION, str(texts), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    moments = int(done.stdout)
    assert moments > 40
    curation = CurationConfig(exact_duplicates=True)
    config = DataConfig(kind="text", name="mine", path=str(texts), vocab_size=300, curation=curation)
    undisturbed = prepare(config, tmp_path / "undisturbed", 1)
    for moment in range(1, moments + 1):
        check_whole(tmp_path / str(moment), undisturbed)


@linux
def test_ctrl_c_keeps_what_is_finished(texts: Path, undisturbed: Corpus, tmp_path: Path) -> None:
    process = start(texts, tmp_path)
    wait_for(partial(has_parts, tmp_path))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    begun = time.monotonic()
    _, errors = process.communicate()
    assert time.monotonic() - begun < 5.0
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.endswith("KeyboardInterrupt\n"), errors
    assert workers_of(tmp_path) == []
    before = finished(tmp_path)
    times = shard_times(next(tmp_path.glob(".*.building")), set(before))
    assert times
    assert finish(texts, tmp_path) == undisturbed.fingerprint
    check_whole(tmp_path, undisturbed)
    assert times == {name: (tmp_path / undisturbed.name / name).stat().st_mtime_ns for name in times}


@linux
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3])
def test_ctrl_c_while_workers_start_is_reported_once(moment: float, texts: Path, tmp_path: Path) -> None:
    process = start(texts, tmp_path)
    wait_for(lambda: workers_of(tmp_path))
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.count("Traceback") == 1 and errors.endswith("KeyboardInterrupt\n"), errors
    wait_for(partial(has_no_workers, tmp_path), 5.0)


@linux
def test_a_worker_that_dies_is_reported_in_one_line_and_its_siblings_work_stays(
    texts: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    process = start(texts, tmp_path)
    wait_for(partial(has_parts, tmp_path))
    os.kill(workers_of(tmp_path)[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: the worker for part s\d\d\.00000 died \(exit status -9\), perhaps because memory ran out; start the same "
        r"command again with fewer workers: finished parts are kept\.\n",
        errors,
    ), errors
    assert workers_of(tmp_path) == []
    before = finished(tmp_path)
    times = shard_times(next(tmp_path.glob(".*.building")), set(before))
    assert times
    assert finish(texts, tmp_path) == undisturbed.fingerprint
    check_whole(tmp_path, undisturbed)
    assert times == {name: (tmp_path / undisturbed.name / name).stat().st_mtime_ns for name in times}


def test_two_processes_prepare_the_same_corpus_at_once_and_one_does_the_work(
    texts: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    processes = [start(texts, tmp_path) for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert [errors for _, errors in outputs] == ["", ""]
    reports = [output.split() for output, _ in outputs]
    assert {fingerprint for fingerprint, _ in reports} == {undisturbed.fingerprint}
    assert sorted(int(count) > 0 for _, count in reports) == [False, True]
    check_whole(tmp_path, undisturbed)


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Path]:
    """Two sources of a document each."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("a.train", "a.validation"):
        (folder / f"{name}.jsonl").write_text('{"text": "one"}\n')
    yield folder


def test_bad_input_met_by_a_worker_is_the_users_error_and_leaves_nothing(few: Path, tmp_path: Path) -> None:
    (few / "b.train.jsonl").write_text('{"text": "fine"}\nplain words\n')
    with pytest.raises(UserError) as single:
        prepare(DataConfig(kind="text", path=str(few), vocab_size=300), tmp_path / "one", 1)
    with pytest.raises(UserError) as parallel:
        prepare(DataConfig(kind="text", path=str(few), vocab_size=300, tokenizer_sample_mb=1e-5), tmp_path / "two", 2)
    assert str(single.value) == str(parallel.value)
    assert str(parallel.value).startswith(f"data.path='{few / 'b.train.jsonl'}:2' is not JSON (")
    assert os.listdir(tmp_path / "one") == os.listdir(tmp_path / "two") == [".locks"]


def test_a_fault_in_a_worker_comes_with_its_traceback(few: Path, tmp_path: Path) -> None:
    plan = make_plan(DataConfig(kind="text", path=str(few), vocab_size=300))
    write_json(tmp_path / "plan.json", plain(plan))
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*No such file or directory: .*tokenizer\.json"):
        run_stage("tokens", plan, tmp_path, [0, 1], [0, 1], 2, lambda *report: None)
