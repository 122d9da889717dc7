"""What mkdocs does besides: pages made from the code, and links that leave the folder of pages.

Pages link to files of the project as ``../scripts/examples/x.py``, which works where the project is
browsed. In the site such a file is copied to ``source/``, and the link follows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import commands
import options
from mkdocs.structure.files import File, Files

__all__ = ["on_files", "on_page_content", "on_page_markdown"]

ROOT = Path(__file__).parents[2]
# People search for words of guides and messages; the Python pages have every word many times.
_BOOSTS = {"troubleshooting.md": 6.0, "reference/python/": 0.3}
# What is written in docstrings as reStructuredText, and shown as it is.
_ROLE = re.compile(r":(?:attr|class|func|meth|mod):(?=<code>)")
_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)(?=[)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code, and CONTRIBUTING and CHANGELOG."""
    made = {
        "reference/options.md": options.page(),
        "reference/commands.md": commands.page(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for page in files.documentation_pages():
        for link in _LINK.findall(page.content_string):
            path = _outside(page.src_uri, link)
            source = f"source/{path}"
            if path and (ROOT / path).is_file() and source not in files.src_uris:
                files.append(File.generated(config, source, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the project point at their copies; say how pages rank in the search."""
    del config, files
    for name, boost in _BOOSTS.items():
        if page.file.src_uri.startswith(name):
            page.meta["search"] = {"boost": boost}
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, link[1])
        return posixpath.relpath(f"source/{path}", here or ".") if path else link[1]

    return _LINK.sub(moved, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings without roles and double colons."""
    del config, files
    if not page.file.src_uri.startswith("reference/python/"):
        return html
    return _ROLE.sub("", html).replace("::</p>", ":</p>")


def _outside(page: str, link: str) -> str:
    """The file of the project that a link of a page means; empty if it is a page of the site."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") else path
