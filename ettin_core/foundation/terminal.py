"""Text of others in a terminal: shown, never obeyed. Imports without torch."""

import unicodedata

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (direction of writing), half characters, separators of lines
_KEPT = "\n\u200c\u200d"  # line ends, and the joiners that words of some scripts need


def printable(text: str) -> str:
    """A text with escapes for what a terminal would obey: colours, moves of the cursor, the direction of writing.

    >>> print(printable("a\\x1b[31mb\\u202ec"))
    a\\x1b[31mb\\u202ec
    """
    return "".join(
        letter.encode("unicode_escape").decode()
        if letter not in _KEPT and unicodedata.category(letter) in _OBEYED
        else letter
        for letter in text
    )
