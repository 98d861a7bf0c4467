"""One sentence form for every error a user can cause: field, value, what is wrong, what to do."""


def invalid(field: str, value: object, problem: str, remedy: str) -> ValueError:
    """Build (not raise) the error for a user's mistake.

    >>> str(invalid("size", "17n", "is not a known size", "use one of nano, micro"))
    "size='17n' is not a known size; use one of nano, micro."
    """
    return ValueError(f"{field}={value!r} {problem}; {remedy}.")
