"""Fixtures shared by the rooms' tests: a tiny prepared corpus, and the evaluation sets where they are at hand."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation import source_code

CACHE = Path(tempfile.gettempdir()) / f"ettin-tests-{os.getuid()}"  # of what may be kept from one session to the next
MEMORY = Path("/dev/shm")  # a folder in memory (Linux): a write that is forced to the disk waits for none there

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start
os.environ.setdefault("ETTIN_CACHE", str(CACHE))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE / "inductor"))
torch.set_num_threads(1)  # for fixtures of a module or session, which are made before `_one_thread`


def _has_room(folder: Path) -> bool:
    """Whether a session's files fit into a folder, and can be run there."""
    usable = folder.is_dir() and os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return usable and shutil.disk_usage(folder).free > 8 * 2**30


if _has_room(MEMORY):
    tempfile.tempdir = str(MEMORY)  # a third of a short training was waiting for the disk
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in the background of a script, and so would processes begun here
    signal.signal(signal.SIGINT, signal.default_int_handler)
REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What modules leave in memory stays to the end: a million and a half objects that no collection looks at again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)  # and what tests make is looked at less often
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms of long files first: each file goes to one process as a whole, and no long one is to be left for the end."""
    rooms = (
        "integration",
        "experiments",
        "training",
        "equality",
        "studies",
        "data",
        "evaluation",
        "interop",
        "analysis",
    )
    order = {room: number for number, room in enumerate(rooms)}
    items.sort(key=lambda item: order.get(item.path.relative_to(item.config.rootpath / "tests").parts[0], len(rooms)))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One thread: the suite runs in parallel, and bitwise tests must not depend on the number of cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpora_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this test session prepares its corpora."""
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="session")
def world_config() -> DataConfig:
    """A small world."""
    return DataConfig(kind="world", name="world", documents=1500, vocab_size=1024)


@pytest.fixture(scope="session")
def corpus(corpora_dir: Path, world_config: DataConfig) -> Corpus:
    """The small world, prepared."""
    return prepare(world_config, corpora_dir)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library's code that is hashed in its place, to be edited by `tests.runs.edit`."""
    shutil.copytree(
        source_code.ROOT / "ettin_core", tmp_path / "code" / "ettin_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(source_code, "ROOT", tmp_path / "code")
    return tmp_path / "code" / "ettin_core"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora and evaluation sets; tests that need it say so when it is absent."""
    if not (REAL_DATA / "manifest.json").exists():
        pytest.skip("the real data folder is not beside the project")
    return REAL_DATA
