"""The C library's allocator, set for a process that allocates and frees the same large arrays step after step.

By default glibc maps each array of more than 32 MiB anew and gives freed memory back, and the kernel clears every page again
when it is touched: 84,000 page faults and a fifth of the time of a step at 17m on a CPU (NOTEBOOK.md). What a process has freed
it keeps instead, for about an eighth more peak memory. This concerns the whole process, so commands ask for it and say so.
"""

import ctypes
import functools
import platform

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # options of mallopt(3)
NEVER = 2**31 - 1
PAD = 64 * 2**20  # bytes by which the heap grows at least


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed memory in this process; returns whether the C library is one that can be asked (glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    options = ((MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER), (TOP_PAD, PAD))
    return all(ctypes.CDLL(None).mallopt(option, value) == 1 for option, value in options)
