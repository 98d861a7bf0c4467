"""How the repository becomes a site: pages outside docs/, source files that pages link to, and the order of the pages.

Links in the repository are relative to the file that holds them. Here README is the front page, a page of docs/ loses that
folder's name, and a linked source file becomes a page that shows it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "docs" / "index.md"
RENAMED = {"README.md": "index.md", "docs/index.md": "documentation.md"}
PAGES = (
    "README.md",
    "NOTEBOOK.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/index.md",
    "paper/protocol.md",
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "paper").rglob("README.md")),
)  # read from elsewhere than docs/
CODE = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".json": "json", ".ipynb": "json"}
LINK = re.compile(r"(\]\(|\b(?:src|href)=\")([^)#\s\"]+)")


def site_path(path: Path) -> str:
    """Where a file of the repository is in the site."""
    name = path.relative_to(ROOT).as_posix()
    if path.suffix in CODE:
        return f"source/{name}.md"
    return RENAMED.get(name, name.removeprefix("docs/"))


def linked(page: Path, target: str) -> Path | None:
    """The file of the repository that a link of a page leads to; None for an address, and for what is not there."""
    path = (page.parent / target).resolve()
    path = path / "README.md" if path.is_dir() else path
    return path if "://" not in target and path.is_file() and path.is_relative_to(ROOT) else None


def on_config(config: Any) -> Any:
    """The navigation: sections and pages of docs/index.md, in its order."""
    config.nav = [{"Home": "index.md"}, {"Documentation": "documentation.md"}]
    for section in INDEX.read_text().split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        pages = (linked(INDEX, target) for _, target in LINK.findall(body))
        config.nav.append({title: [site_path(page) for page in pages if page is not None]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/, and every file that a page links to."""
    files.remove(files.src_uris["index.md"])
    for name in PAGES:
        files.append(File.generated(config, site_path(ROOT / name), content=(ROOT / name).read_text()))
    pages = [ROOT / name for name in PAGES] + [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    pages = [page for page in pages if page.is_file()]
    for page in pages:  # which grow by the pages that they link to
        for _, target in LINK.findall(page.read_text()):
            path = linked(page, target)
            if path is not None and site_path(path) not in files.src_uris:
                files.append(_file(path, config))
                pages += [path] if path.suffix == ".md" else []
    return files


def _file(path: Path, config: Any) -> File:
    if path.suffix not in CODE:
        return File.generated(config, site_path(path), abs_src_path=str(path))
    head = f"---\nhide: [toc]\n---\n\n# {path.relative_to(ROOT).as_posix()}\n\n"
    return File.generated(config, site_path(path), content=f"{head}````{CODE[path.suffix]}\n{path.read_text()}\n````\n")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The links of a page as they are in the site."""
    here = page.file.src_uri
    if here.startswith("source/"):
        return markdown
    origin = {renamed: ROOT / name for name, renamed in RENAMED.items()}.get(here, ROOT / "docs" / here)
    origin = origin if origin.exists() else ROOT / here

    def moved(found: re.Match[str]) -> str:
        path = linked(origin, found[2])
        return (
            found[0] if path is None else found[1] + posixpath.relpath(site_path(path), posixpath.dirname(here) or ".")
        )

    return LINK.sub(moved, markdown)
