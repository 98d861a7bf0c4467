"""What values a field of a configuration may have: the checks that the dataclasses of configuration share.

Each raises a ValueError that names the field, the bound and a remedy. Comparisons let NaN through, so `strict_config.build`
raises for every number that is not finite.
"""

import os

from ettin_core.foundation.errors import invalid

NAME_BYTES = 64  # several names and a hash make the name of a folder, and file systems end at 255
THREADS_PER_CORE = 4  # more threads than that wait for each other


def check_within(path: str, value: float, least: float, most: float) -> None:
    """Raises ValueError if a number is below `least` or above `most`."""
    if not least <= value <= most:
        raise invalid(path, value, f"is not between {least:,} and {most:,}", "use a value in this range")


def check_name(path: str, value: str) -> None:
    """Raises ValueError if a name could not be part of a file's name, or would lead out of its folder."""
    if not value or value != value.strip() or value.startswith("."):
        problem = "is not a valid name: it is empty, or begins with a dot or blank"
        raise invalid(path, value, problem, "use letters and digits")
    if any(letter in "/\\" or not letter.isprintable() for letter in value):
        problem = "becomes the name of a folder and holds a separator or a control character"
        raise invalid(path, value, problem, "use letters, digits, '-' and '_'")
    if len(value.encode(errors="surrogateescape")) > NAME_BYTES:
        raise invalid(path, value, f"is longer than {NAME_BYTES} bytes", "use a shorter name")


def check_threads(path: str, value: int) -> None:
    """Raises ValueError if a number of threads is below 1, or so high that it would slow this machine down."""
    cores = os.cpu_count() or 1
    if not 1 <= value <= cores * THREADS_PER_CORE:
        problem = f"is not between 1 and {cores * THREADS_PER_CORE}, {THREADS_PER_CORE} for each core of this machine"
        raise invalid(path, value, problem, f"use 1 to {cores}")
