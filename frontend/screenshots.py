"""Pictures of `cnapse review` for docs/review.md, taken by a headless Chromium.

    cnapse review cnapse.toml --no-browser
    python frontend/screenshots.py LINK docs/images --size 1366 768

Decides a few things: use a copy of a log, or a new one. Needs `playwright` (its package alone) and
chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# EM is noise to PNG: few greys keep a picture below 300 kB. (greys, other colours)
_PALETTES = ((48, 128), (32, 96), (24, 64), (16, 48), (12, 32))
_SOURCES = Path(__file__).parent / "src"
_LARGEST = 290_000
_ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_TIMEOUT_MS = 60_000


class Album:
    """A page of the browser, and where its pictures go."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder

    def press(self, *keys: str) -> None:
        """Press keys, not faster than people do."""
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(150)

    def see(self, selector: str) -> None:
        """Wait for an element."""
        self.page.wait_for_selector(selector, timeout=_TIMEOUT_MS)

    def take(self, name: str, wait_ms: int = 1500) -> None:
        """A picture, once nothing moves."""
        self.page.mouse.move(2, 2)
        self.page.wait_for_timeout(wait_ms)
        raw = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        for greys, colours in _PALETTES:
            packed = io.BytesIO()
            _few_colours(raw, greys, colours).save(packed, "PNG", optimize=True)
            if packed.tell() <= _LARGEST:
                break
        (self.folder / f"review_{name}.png").write_bytes(packed.getvalue())


def _own_colours() -> npt.NDArray[np.uint8]:
    """The colours that the page names, so that they are shown as they are."""
    sources = [*_SOURCES.glob("styles/*.css"), _SOURCES / "lib/colours.ts"]
    text = "".join(path.read_text() for path in sources)
    found = sorted(set(re.findall(r"#([0-9a-f]{6})\b", text)))
    return np.frombuffer(bytes.fromhex("".join(found)), np.uint8).reshape(-1, 3)


def _few_colours(picture: Image.Image, greys: int, colours: int) -> Image.Image:
    """A picture with a palette of its own: even greys, and what it has of other colours."""
    pixels = np.asarray(picture).reshape(-1, 3)
    coloured = pixels[np.ptp(pixels.astype(np.int16), axis=1) > 12]
    grey = np.repeat(np.linspace(0, 255, greys).round().astype(np.uint8)[:, None], 3, axis=1)
    palette = [grey, _own_colours()]
    if len(coloured):
        # Each colour once: a small blue cell counts as much as a large green one.
        side = Image.fromarray(np.unique(coloured & 0xF8, axis=0)[None])
        found = side.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=1).getpalette()
        palette.append(np.array(found, np.uint8).reshape(-1, 3)[:colours])
    holder = Image.new("P", (1, 1))
    holder.putpalette(np.concatenate(palette).ravel().tolist())
    return picture.quantize(palette=holder, dither=Image.Dither.NONE)


def walk(album: Album, link: str) -> None:
    """All views, as a reviewer comes by them."""
    album.page.goto(link)
    album.see("#reviewer")
    album.take("start")
    album.page.keyboard.type("Anna")
    album.press("Enter")
    album.see(".tile img")
    album.press("t", "t", "f", "t", "e", "m", "s")
    album.take("candidates")
    album.press("?")
    album.take("keys")
    album.press("Escape", "Enter")
    album.see(".section-canvas")
    album.take("large")
    album.press("g", "p")
    album.see(".partner")
    while album.page.locator(".partner").count() < 3:
        album.press("ArrowRight")
        album.see(".partner")
    album.take("partners")
    album.press("2")
    album.press("e")
    album.page.keyboard.type("60")
    album.press("Enter")
    album.take("corrected")
    album.press("r", "v")
    album.take("viewer", wait_ms=12_000)
    album.press("v", "Enter")
    album.press("g", "o")
    album.see(".card")
    album.press("Enter")
    album.see(".modes")
    album.page.wait_for_timeout(2500)
    album.press("s", "ArrowLeft", "ArrowLeft", *["Shift+ArrowUp"] * 6, "Space", "2")
    album.press(*["ArrowRight"] * 4, *["Shift+ArrowDown"] * 13, "Space")
    album.take("objects")
    album.press("Escape", "g", "r")
    album.take("progress")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(1366, 768))
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": given.size[0], "height": given.size[1]})
        page.set_default_timeout(_TIMEOUT_MS)
        walk(Album(page, given.folder), given.link)
        browser.close()


if __name__ == "__main__":
    main()
