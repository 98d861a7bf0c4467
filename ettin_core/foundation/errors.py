"""One sentence form for every error a user can cause: field, value, what is wrong, what to do."""


class UserError(ValueError):
    """A mistake of the user's, told in one line; any other ValueError is a fault of the program."""


class BusyError(UserError):
    """Another process holds what this one would write."""


class DiskFullError(OSError):
    """No space left; what was saved before is whole."""


def with_extra(name: str) -> str:
    """The command that installs an extra, for the remedy of an error; the project is on no index, so it names no package.

    >>> with_extra("data")
    'run pip install -c constraints.txt -e ".[data]" in the checkout'
    """
    return f'run pip install -c constraints.txt -e ".[{name}]" in the checkout'


def invalid(field: str, value: object, problem: str, remedy: str) -> UserError:
    """Build (not raise) the error for a user's mistake.

    >>> str(invalid("size", "17n", "is not a known size", "use one of nano, micro"))
    "size='17n' is not a known size; use one of nano, micro."
    """
    return UserError(f"{field}={value!r} {problem}; {remedy}.")
