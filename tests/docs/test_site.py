"""The site: it builds without a warning, every link of it leads somewhere, nothing is elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("http://", "https://", "mailto:")
_LARGEST = 350_000


class Page(HTMLParser):
    """What a page of HTML links to, loads, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {"", "__nothing"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loads.append(given["src"])
        is_loaded = given.get("rel") in ("stylesheet", "icon", "preload", "modulepreload")
        if tag == "link" and is_loaded:
            self.loads.append(given["href"])

    handle_startendtag = handle_starttag


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html")}


def broken(pages: dict[Path, Page], site: Path) -> list[str]:
    """Links that lead nowhere, as ``page: link``."""
    found = []
    for path, page in pages.items():
        for link in {*page.links, *page.loads}:
            if link.startswith((*ELSEWHERE, "data:", "javascript:")):
                continue
            place, anchor = urldefrag(link)
            # 404.html is served at any depth, so its links begin at the root.
            base = site if place.startswith("/") else path.parent
            target = (base / unquote(place).lstrip("/")).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            is_there = target.is_file()
            if is_there and target in pages:
                is_there = unquote(anchor) in pages[target].anchors
            if not is_there:
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    return sorted(found)


def test_every_link_and_anchor_leads_somewhere(pages, site) -> None:
    assert len(pages) > 30
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken(pages, site) == []


def test_the_checker_finds_what_is_broken(tmp_path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#x">1</a><a href="c.html">2</a>')
    (tmp_path / "b.html").write_text('<p id="y"></p><img src="no.png"><a href="#y">3</a>')
    pages = {path: Page(path) for path in tmp_path.glob("*.html")}
    assert broken(pages, tmp_path) == ["a.html: b.html#x", "a.html: c.html", "b.html: no.png"]


def test_nothing_is_loaded_from_elsewhere(pages, site) -> None:
    for page in pages.values():
        for load in page.loads:
            assert not load.startswith((*ELSEWHERE, "//")), (page.path, load)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style


def test_every_page_has_a_title_and_can_be_found(pages, site) -> None:
    for page in pages.values():
        text = page.path.read_text()
        if page.path.name != "404.html":
            assert len(re.findall(r"<h1", text)) == 1, page.path
    assert (site / "search/search_index.js").stat().st_size > 100_000


def test_pictures_are_small_and_described() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for alt, picture in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text()):
            assert len(alt) > 8, (page, picture)
            assert (page.parent / picture).stat().st_size < _LARGEST, picture


def test_every_page_is_in_the_navigation() -> None:
    """mkdocs looks at pages that are there; this one at names that are not quoted in the file."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:", lambda loader, suffix, node: None)
    text = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    assert text["strict"] is True
    assert text["theme"]["font"] is False
    assert not text.get("extra_javascript")
