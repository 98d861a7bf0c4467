"""A process that keeps its freed memory touches no new pages for arrays that it had before."""

import resource
import subprocess
import sys

import pytest

from ettin_core.foundation.allocation import keep_freed_memory

FAULTS = """
import resource, sys
if sys.argv[1] == "keep":
    from ettin_core.foundation.allocation import keep_freed_memory
    assert keep_freed_memory() and keep_freed_memory()
def step():
    held = bytearray(100 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    """Page faults of three arrays of 100 MiB that are freed, after a first one, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_used_again() -> None:
    pages = 3 * 100 * 2**20 // resource.getpagesize()
    assert faults("as it is") > pages / 600  # at least a huge page each time
    assert faults("keep") < 100


def test_importing_the_library_sets_nothing() -> None:
    code = (
        "import ettin_core.training.loop, ettin_core.foundation.allocation as a; "
        "assert not a.keep_freed_memory.cache_info().currsize"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory.__wrapped__()
