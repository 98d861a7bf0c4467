"""What values a field of a configuration may have: the checks that the dataclasses of configuration share.

Each raises a ValueError that names the field, the bound and a remedy. Numbers that are not finite never come so far: a
comparison lets NaN through, so `structures.build` refuses them for every field.
"""

import os

from ettin_core.foundation.errors import invalid

NAME_BYTES = 64  # several names and a hash make the name of a folder, and file systems end at 255
THREADS_PER_CORE = 4  # more threads than that wait for each other


def check_within(path: str, value: float, least: float, most: float) -> None:
    """Refuse a number outside its bounds, which belong to it."""
    if not least <= value <= most:
        raise invalid(path, value, f"is not between {least:,} and {most:,}", "use a value in this range")


def check_name(path: str, value: str) -> None:
    """Refuse a name that could not be part of a file's name, or that would lead out of its folder."""
    if not value or value != value.strip() or value.startswith("."):
        raise invalid(path, value, "is no name: it is empty, or begins with a dot or blank", "use letters and digits")
    if any(letter in "/\\" or not letter.isprintable() for letter in value):
        problem = "becomes the name of a folder and holds a separator or a control character"
        raise invalid(path, value, problem, "use letters, digits, '-' and '_'")
    if len(value.encode(errors="surrogateescape")) > NAME_BYTES:
        raise invalid(path, value, f"is longer than {NAME_BYTES} bytes", "use a shorter name")


def check_threads(path: str, value: int) -> None:
    """Refuse a number of threads that this machine could only slow down with."""
    cores = os.cpu_count() or 1
    if not 1 <= value <= cores * THREADS_PER_CORE:
        problem = f"is not between 1 and {cores * THREADS_PER_CORE}, {THREADS_PER_CORE} for each core of this machine"
        raise invalid(path, value, problem, f"use 1 to {cores}")
