"""The page that is shipped is the one in frontend/, and asks nobody but its own server."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FRONTEND = ROOT / "frontend"
STATIC = ROOT / "cnapse/review/web/static"


def test_the_page_was_built_from_these_sources() -> None:
    if not FRONTEND.is_dir():
        pytest.skip("no frontend/: this is not a clone of the project")
    folders = [path for name in ("src", "public") for path in (FRONTEND / name).rglob("*")]
    files = [FRONTEND / "index.html", FRONTEND / "package-lock.json", *folders]
    named = {path.relative_to(FRONTEND).as_posix(): path for path in files if path.is_file()}
    digest = hashlib.sha256()
    for name in sorted(named):
        digest.update(f"{name}\0".encode())
        digest.update(named[name].read_bytes())
    built = (STATIC / "sources.sha256").read_text().strip()
    assert digest.hexdigest() == built, "the page is stale: cd frontend && npm ci && npm run build"


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text()
    for script in re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL):
        assert not script.strip()
    assert "<style" not in page
    assert " style=" not in page
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) >= 3
    for address in named:
        assert "//" not in address
        assert (STATIC / address.lstrip("./")).is_file(), address
    for path in STATIC.rglob("*.css"):
        assert "url(" not in path.read_text()
    for path in STATIC.rglob("*.js"):
        # Names of XML's and SVG's vocabularies are no addresses that are asked.
        found = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
        assert {address for address in found if "www.w3.org" not in address} == set()
