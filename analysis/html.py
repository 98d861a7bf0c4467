"""What the pages of reports are made of: the frame, tables that can be sorted, figures that can be enlarged. One file each."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import DictLoader, Environment
from markupsafe import Markup, escape

from analysis.figures import ReportFigure
from analysis.render import csv
from analysis.sources import Sources
from analysis.tables import SUPERSCRIPTS, Table

PROSE = 44  # letters of a cell that is wrapped
MANY = 12  # columns of a table whose words are broken to fit on paper
_MARKS = "".join(chr(mark) for mark in SUPERSCRIPTS.values() if mark is not None and chr(mark) != "⁻")
_MARKED = re.compile(rf"^(?P<text>[^×]*?)(?P<mark>[{_MARKS}]+)$")
_HERE = Path(__file__).parent
_BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}</title>
<style>
{{ css }}{% block style %}{% endblock %}
</style>
</head>
<body>
<h1>{{ name }}</h1>
{% block body %}{% endblock %}
<script>
{{ script }}</script>
</body>
</html>
"""
_PARTS = """{% macro table(table) %}
<h2 id="{{ table.name }}">{{ table.title }}</h2>
<div class="scroll" tabindex="0" role="region" aria-label="{{ table.title }}">
<table{% if table.header|length > many %} class="many"{% endif %}>
{% set kinds = table|column_classes %}
<thead><tr>{% for cell in table.header %}<th scope="col"{{ kinds[loop.index0] }}>{{ cell }}</th>{% endfor %}</tr></thead>
{% for title, rows in table.sections %}<tbody>
{% if title %}<tr class="section"><th scope="colgroup" colspan="{{ table.header|length }}">{{ title|shown(table) }}</th></tr>
{% endif %}
{% for row in rows %}<tr>{% for cell in row %}
{% if loop.first %}<th scope="row">{{ cell|shown(table) }}</th>{% else %}<td{{ kinds[loop.index0] }}>{{ cell|shown(table) }}</td>
{% endif %}{% endfor %}</tr>
{% endfor %}</tbody>
{% else %}<tbody><tr><td colspan="{{ table.header|length }}">nothing to show</td></tr></tbody>{% endfor %}
</table></div>
{% for note in table.notes %}<p class="note"{{ note|note_id(table) }}>{{ note }}</p>{% endfor %}
{% endmacro %}
{% macro figure(figure) %}
<figure id="figure-{{ figure.name }}"{% if figure.tall %} class="tall"{% endif %}>
<div class="frame" id="enlarged-{{ figure.name }}">
<a class="enlarge" href="#enlarged-{{ figure.name }}" title="Enlarge"><img alt="{{ figure.title }}"
 src="data:image/png;base64,{{ figure.image }}"></a><a class="close" href="#figure-{{ figure.name }}">Close</a></div>
<figcaption><b>{{ figure.title }}.</b> {{ figure.caption }}
Its numbers: <a download="{{ figure.name }}.data.csv" href="data:text/csv;charset=utf-8,{{ figure.data }}">
{{- figure.name }}.data.csv</a>, {{ figure.rows }} rows.</figcaption></figure>
{% endmacro %}
"""


def rendered(template: str, sources: Sources | None = None, **values: Any) -> str:
    """A page: a template that extends "base" and may import "parts" for tables and figures.

    `sources` knows the records behind the cells of tables, which are then links to where the page lists them.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, loader=DictLoader({"base": _BASE, "parts": _PARTS, "page": template})
    )
    environment.filters |= {
        "column_classes": column_classes,
        "shown": lambda cell, table: _shown(cell, table, sources),
        "note_id": _note_id,
    }
    environment.globals["many"] = MANY
    css, script = (Markup((_HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return environment.get_template("page").render(css=css, script=script, sources=sources, **values)


def column_classes(table: Table) -> list[str]:
    """By column the class "prose" where cells hold sentences, which are wrapped and aligned to the left; else nothing."""
    rows = [row for _, rows in table.sections for row in rows]
    is_prose = [place > 0 and any(len(row[place]) > PROSE for row in rows) for place in range(len(table.header))]
    return [Markup(' class="prose"') if prose else "" for prose in is_prose]


def embedded(figures: list[ReportFigure], images: dict[str, bytes]) -> list[dict[str, Any]]:
    """Figures as a page needs them: the image and its numbers within the page."""
    return [
        {
            "name": figure.name,
            "title": figure.title,
            "caption": f"{figure.caption} {figure.note}".rstrip(),
            "image": base64.b64encode(images[figure.name]).decode(),
            "data": Markup(quote(csv(figure.data), safe=",.:;/()[]=+-_")),
            "rows": f"{len(figure.data):,}",
            "tall": figure.figure.get_figheight() > figure.figure.get_figwidth(),
        }
        for figure in figures
    ]


def _shown(cell: str, table: Table, sources: Sources | None) -> Markup:
    """A cell with a link to its records, and one to the note that its mark points to."""
    notes = {note.partition(" ")[0]: note.partition(" ")[2] for note in table.notes}
    marked = _MARKED.match(cell)
    mark = marked["mark"] if marked and marked["mark"] in notes else ""
    link = sources.link(cell) if sources else None
    text = escape(str(cell).removesuffix(mark))
    html = Markup('<a href="{}" title="{}">{}</a>').format(*link, text) if link else text
    if not mark:
        return html
    place = f"#{_note_name(table, mark)}"
    return html + Markup('<a class="mark" href="{}" title="{}">{}</a>').format(place, notes[mark], mark)


def _note_id(note: str, table: Table) -> Markup:
    mark = note.partition(" ")[0]
    return Markup(' id="{}"').format(_note_name(table, mark)) if mark and set(mark) <= set(_MARKS) else Markup("")


def _note_name(table: Table, mark: str) -> str:
    return f"{table.name}-note-{''.join(str(_MARKS.index(digit)) for digit in mark)}"
