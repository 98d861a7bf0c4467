"""Names of others in figures: short, printable and apart. Tables and CSV files have them in full."""

import functools
import textwrap
import unicodedata
from collections.abc import Iterable

import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes

LETTERS = 26  # of a name, where nothing says how much room there is
UPRIGHT_LETTERS, UPRIGHT_POINTS = 14, 7.5  # below an axis: more would leave no room for the panel
LETTER_WIDTH = 0.66  # of a digit, which is a wide letter, as a share of the size of its font
POINTS = 72  # in an inch
_SHOWN_HEAD = 0.6  # of a shortened name: its beginning, the rest is its end
_FAMILIES = (  # the house's, then what has the letters it lacks; of these, those that are installed
    "DejaVu Sans",
    *(f"Noto Sans CJK {region}" for region in ("SC", "JP", "TC", "KR")),
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
    "Noto Sans Ethiopic",
    "Noto Emoji",
    "Arial Unicode MS",
    "Unifont",
)


@functools.cache
def families() -> list[str]:
    """The installed families of fonts that figures are written in, in order: matplotlib takes a letter from the first with it."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FAMILIES if name in installed]


@functools.cache
def _has_glyph() -> frozenset[str]:
    files = [font_manager.findfont(name, fallback_to_default=False) for name in families()]
    return frozenset(chr(code) for file in files for code in font_manager.get_font(file).get_charmap())


def label(name: object, letters: int = LETTERS) -> str:
    """A name as a figure writes it: at most `letters` wide, "$" as itself, U+XXXX for what cannot be shown."""
    shown = _shortened(printable(str(name)), max(3, letters))
    return shown.replace("$", r"\$")  # matplotlib would read a formula


def labels(names: Iterable[object], letters: int = LETTERS) -> list[str]:
    """The labels of several names; where different names would have the same they are numbered."""
    texts = [str(name) for name in names]
    by_name: dict[str, str] = {}
    for name in texts:
        short, number = label(name, letters), 1
        while name not in by_name and short in by_name.values():
            number += 1
            short = f"{label(name, letters - len(str(number)) - 3)} ({number})"
        by_name.setdefault(name, short)
    return [by_name[name] for name in texts]


def multiline(text: str, letters: int) -> str:
    """A text on up to three lines, each printable and at most `letters` wide."""
    lines = textwrap.wrap(text, letters, max_lines=3, placeholder="…", break_long_words=False)
    return "\n".join(label(line, letters) for line in lines)


def fitting(inches: float, points: float) -> int:
    """How many letters of a font of this size fit side by side."""
    return max(3, int(inches * POINTS / (points * LETTER_WIDTH)))


def width(text: str) -> int:
    """The width of a text in letters: Chinese and the like are two wide, accents none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def name_columns(axis: Axes, names: Iterable[object], inches: float, points: float = 9) -> None:
    """Names at 0, 1, 2, ... of an x axis of this width; where they would touch they are upright."""
    names = list(names)
    room = fitting(inches / max(1, len(names)), points) - 1
    fits = all(width(printable(str(name))) <= room for name in names)
    size = points if fits else UPRIGHT_POINTS
    axis.set_xticks(range(len(names)), labels(names, room if fits else UPRIGHT_LETTERS), fontsize=size)
    if not fits:
        axis.tick_params(axis="x", rotation=90)


def lacks_letters(frame: pd.DataFrame) -> bool:
    """Whether names in a frame have letters that no installed font has."""
    texts = [*frame.columns, *(value for name in frame for value in frame[name].unique() if isinstance(value, str))]
    return any(letter.isprintable() and letter not in _has_glyph() for text in texts for letter in str(text))


def printable(text: str) -> str:
    """A text with the code of each letter that cannot be shown: a control character, or one that no font has."""
    shown = [letter.isprintable() and letter in _has_glyph() for letter in text]
    return "".join(letter if plain else f"[U+{ord(letter):04X}]" for letter, plain in zip(text, shown, strict=True))


def _shortened(text: str, letters: int) -> str:
    """A text cut in its middle: names of one series differ at their ends."""
    if width(text) <= letters:
        return text
    head, tail = "", ""
    for letter in text:
        if width(head + letter) > (letters - 1) * _SHOWN_HEAD:
            break
        head += letter
    for letter in reversed(text):
        if width(letter + tail) > letters - 1 - width(head):
            break
        tail = letter + tail
    return f"{head.rstrip()}…{tail.lstrip()}"
