"""The page as readers see it: in a real browser, on a narrow and a wide screen, without scripts, and in print."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

RESULTS = Path(__file__).parents[2] / "paper" / "results"
PAGES = ("pair", "factorial", "masking_ratio")
LANDSCAPE = {"width": 1032, "height": 703}  # what a page of A4 has within its margins, in CSS pixels
TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(part => {
    const box = part.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1) && !part.closest(".scroll *");
}).map(part => part.outerHTML.slice(0, 80))"""
COLUMN = """([table, column]) => [...document.querySelector(`#${table} + .scroll table`).tBodies].map(body =>
    [...body.rows].filter(row => !row.classList.contains("section")).map(row => row.cells[column].textContent))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def addresses(report: Path) -> dict[str, str]:
    """A page of a pair study beside its runs, and those of the committed studies."""
    folders = {"pair": report} | {name: RESULTS / name for name in PAGES[1:]}
    return {name: (folder / "index.html").as_uri() for name, folder in folders.items()}


def opened(browser: Any, address: str, width: int = 1400, height: int = 844, **more: Any) -> Any:
    """A tab with the page."""
    tab = browser.new_page(viewport={"width": width, "height": height}, **more)
    tab.set_default_timeout(5000)
    tab.goto(address)
    return tab


@pytest.mark.parametrize("name", PAGES)
def test_every_screen_holds_the_page_and_the_first_holds_the_answer(
    browser: Any, addresses: dict[str, str], name: str
) -> None:
    for width in (390, 1400):
        tab = opened(browser, addresses[name], width)
        assert tab.evaluate(TOO_WIDE) == [] and tab.evaluate("document.documentElement.scrollWidth") == width
        for first in (".claim", ".verdicts dt", ".verdicts dd"):
            if name != "pair" or first != ".claim":  # a plain pair states no claim
                box = tab.locator(first).first.bounding_box()
                assert box["y"] + box["height"] < 844, (width, first)
        tab.close()


@pytest.mark.parametrize("name", PAGES)
def test_paper_holds_tables_figures_and_all_of_control(browser: Any, addresses: dict[str, str], name: str) -> None:
    tab = opened(browser, addresses[name], **LANDSCAPE)
    tab.emulate_media(media="print")
    assert tab.evaluate(TOO_WIDE) == []
    wide = "part => part.scrollWidth > part.clientWidth + 1"
    assert not tab.evaluate(f"[...document.querySelectorAll('.scroll')].some({wide})")
    assert all(box["height"] > 20 for box in (part.bounding_box() for part in tab.locator("div.verdict").all()))
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    tab.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(browser: Any, addresses: dict[str, str], name: str) -> None:
    tab = opened(browser, addresses[name])
    links = set(tab.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))"))
    inside = {link for link in links if link.startswith("#")}
    names = set(tab.evaluate("[...document.querySelectorAll('[id]')].map(part => part.id)"))
    assert {link[1:] for link in inside} <= names and any(link.startswith("#records-") for link in inside)
    assert not tab.evaluate("[...document.querySelectorAll('[src]')].some(part => !part.src.startsWith('data:'))")
    files = {link for link in links - inside if not link.startswith("data:text/csv")}
    folder = Path(addresses[name].removeprefix("file://")).parent
    assert files and all((folder / unquote(link)).exists() for link in files)
    tab.close()


def test_columns_are_sorted_by_value_within_their_sections(browser: Any, addresses: dict[str, str]) -> None:
    tab = opened(browser, addresses["factorial"])
    column = ["effects", 1]
    before = tab.evaluate(COLUMN, column)
    button = tab.locator("#effects + .scroll thead button").nth(1)
    button.focus()
    for order in (1, -1):
        tab.keyboard.press("Enter")
        values = [
            [float(text.split(" [")[0].replace("−", "-")) for text in rows] for rows in tab.evaluate(COLUMN, column)
        ]
        assert len(values) > 3 and all(rows == sorted(rows, key=lambda value: order * value) for rows in values)
    assert tab.locator("#effects + .scroll th[aria-sort]").get_attribute("aria-sort") == "descending"
    tab.keyboard.press("Enter")
    assert tab.evaluate(COLUMN, column) == before
    tab.close()


@pytest.mark.parametrize(
    ("texts", "ordered"),
    [
        (["1,975", "2.16×10¹³", "—¹", "−0.5 [−1, 0]", "<0.001", "12%"], [3, 4, 5, 0, 1, 2]),
        (["run 10", "run 9", "", "Ärger"], [3, 1, 0, 2]),
        (["1 run", "x", "10"], [0, 2, 1]),
    ],
)
def test_a_column_is_numbers_or_words_and_holes_are_last(
    browser: Any, addresses: dict[str, str], texts: list[str], ordered: list[int]
) -> None:
    tab = opened(browser, addresses["factorial"])
    given = tab.evaluate(
        """texts => {
            const rows = texts.map((text, place) => ({ cells: [{ textContent: text }], place }));
            return rows.sort(compare(0, rows, 1)).map(row => row.place);
        }""",
        texts,
    )
    assert given == ordered
    tab.close()


def test_a_figure_fills_the_screen_and_goes_back_with_and_without_scripts(
    browser: Any, addresses: dict[str, str]
) -> None:
    for scripts in (True, False):
        tab = opened(browser, addresses["factorial"], java_script_enabled=scripts)
        frame = tab.locator("#enlarged-loss")
        tab.locator("#figure-loss .enlarge").click()
        assert frame.bounding_box() == {"x": 0, "y": 0, "width": 1400, "height": 844}
        if scripts:
            tab.keyboard.press("Escape")
        else:
            tab.locator("#figure-loss .close").click()
            assert tab.locator("thead button").count() == 0 and tab.locator("#effects + .scroll td").count() > 100
        assert frame.evaluate("part => getComputedStyle(part).position") == "static"
        tab.close()


def test_a_number_shows_the_path_of_its_record_and_leads_to_it(
    browser: Any, addresses: dict[str, str], report: Path
) -> None:
    tab = opened(browser, addresses["pair"])
    number = tab.locator("#comparison + .scroll td a:not(.mark)").first
    path = number.get_attribute("title")
    assert path.endswith("/measurements.jsonl") and (report.parent / "runs" / path).exists()
    number.click()
    listed = tab.locator(f"{number.get_attribute('href')} a", has_text=path)
    assert listed.is_visible()
    assert unquote(listed.get_attribute("href")) == f"../runs/{path}"
    tab.close()
