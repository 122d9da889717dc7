"""Screenshots of `cnapse view`, taken by a headless Chromium.

    cnapse demo
    python docs/screenshots.py demo/cnapse.toml demo.png --synapse 1664926
    python docs/screenshots.py vnc/cnapse.toml docs/images/view_vnc.png --size 1200 760 --cell NAME

Options that it does not know go to `cnapse view`. Needs `playwright` (its package alone, not its
browsers) and chromium; no graphics card, WebGL is computed. `tests/viewing/test_browser.py` looks
at the page in the same way.
"""

from __future__ import annotations

import argparse
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["CHROMIUM", "Window", "chromium", "served", "settled"]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)
# What Neuroglancer itself says of its layers: sources and their errors, chunks that the view needs
# and those that have come, segments that are selected.
_FACTS = """() => Object.fromEntries(viewer.layerManager.managedLayers.map(({name, layer}) => {
  const chunks = {needed: 0, available: 0};
  for (const drawn of layer.renderLayers) {
    const progress = drawn.layerChunkProgressInfo;
    if (!progress) continue;
    chunks.needed += progress.numVisibleChunksNeeded;
    chunks.available += progress.numVisibleChunksAvailable;
  }
  const group = layer.displayState && layer.displayState.segmentationGroupState;
  return [name, {
    ...chunks,
    errors: layer.dataSources.map(
      s => s.loadState === undefined ? 'not loaded' : String(s.loadState.error || '')
    ).filter(text => text),
    segments: group ? Array.from(group.value.visibleSegments, String) : [],
  }];
}))"""
_READY = "() => window.viewer !== undefined && window.viewer.isReady()"
_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Window:
    """A page of a browser.

    Attributes
    ----------
    page : playwright.sync_api.Page
    complaints : list of str
        What the browser and the page's program called errors, since the page was opened.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Show a page."""
        self.complaints.clear()
        self.page.goto(address, wait_until="domcontentloaded")

    def run(self, program: str, argument: object = None) -> Any:
        """What a function in JavaScript gives."""
        return self.page.evaluate(program, argument)

    def facts(self) -> dict[str, Any]:
        """What Neuroglancer says of each layer: chunks needed and there, errors, segments."""
        answer: dict[str, Any] = self.run(_FACTS)
        return answer


@contextmanager
def chromium(width: int, height: int) -> Iterator[Window]:
    """A browser whose page has a size in pixels."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_ARGUMENTS, timeout=_TIMEOUT_MS
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(_TIMEOUT_MS)
        window = Window(page)
        page.on("pageerror", lambda error: window.complaints.append(str(error)))
        page.on("console", lambda message: _note(window, message))
        try:
            yield window
        finally:
            browser.close()


def _note(window: Window, message: Any) -> None:
    # Chromium asks for an icon that the client has not.
    if message.type == "error" and "favicon" not in message.location.get("url", ""):
        window.complaints.append(message.text)


def settled(window: Window, seconds: float = 60) -> Image.Image:
    """The page once everything has loaded and nothing moves any more.

    Raises
    ------
    TimeoutError
        If that takes too long; with what the browser complained about.
    """
    end = time.monotonic() + seconds
    previous = b""
    while time.monotonic() < end:
        window.page.wait_for_timeout(200)
        if not window.run(_READY):
            continue
        current = window.page.screenshot()
        if current == previous:
            return Image.open(io.BytesIO(current)).convert("RGB")
        previous = current
    raise TimeoutError(f"not ready after {seconds} s: {window.facts()}, {window.complaints}")


@contextmanager
def served(config: Path, *options: str) -> Iterator[str]:
    """`cnapse view` in a process of its own; the address that it prints."""
    command = [sys.executable, "-m", "cnapse_cli", "view", str(config), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        lines = iter(process.stdout or ())
        address = next((line.strip() for line in lines if line.startswith("http")), "")
        if not address:
            raise RuntimeError(f"`cnapse view {config}` ended: see above")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(1400, 900), metavar=("X", "Y"))
    parser.add_argument("--seconds", type=float, default=60, help="how long to wait for it")
    arguments, options = parser.parse_known_args()
    with served(arguments.config, *options) as address, chromium(*arguments.size) as window:
        window.open(address)
        settled(window, arguments.seconds).save(arguments.picture, optimize=True)
        for name, found in window.facts().items():
            sys.stdout.write(f"{name:12} {found}\n")


if __name__ == "__main__":
    _main()
