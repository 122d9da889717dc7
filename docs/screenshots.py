"""Screenshots of `cnapse view`, taken by a headless Chromium.

    cnapse demo
    python docs/screenshots.py demo/cnapse.toml docs/images/view_demo.png --synapse 1664926
    python docs/screenshots.py vnc/cnapse.toml docs/images/view_vnc.png --size 1200 760 --cell NAME

Options that it does not know go to `cnapse view`. Needs `selenium`, chromium and chromedriver; no
graphics card, WebGL is computed. `tests/viewing/test_browser.py` looks at the page in the same way.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["CHROMIUM", "DRIVER", "chromium", "facts", "served", "settled"]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)
# What Neuroglancer itself says of its layers: sources and their errors, chunks that the view needs
# and those that have come, segments that are selected.
_FACTS = """
return Object.fromEntries(window.viewer.layerManager.managedLayers.map(({name, layer}) => {
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
}));
"""


@contextmanager
def chromium(width: int, height: int) -> Iterator[Any]:
    """A browser whose page has a size in pixels."""
    from selenium import webdriver

    os.environ.setdefault("SE_OFFLINE", "true")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        page = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", page)
        yield driver
    finally:
        driver.quit()


def facts(browser: Any) -> dict[str, Any]:
    """What Neuroglancer says of each layer: chunks needed and there, errors, selected segments."""
    answer: dict[str, Any] = browser.execute_script(_FACTS)
    return answer


def settled(browser: Any, seconds: float = 40) -> Image.Image:
    """The page once everything has loaded and nothing moves any more.

    Raises
    ------
    TimeoutError
        If that takes too long; with what the browser complained about.
    """
    end = time.monotonic() + seconds
    previous = b""
    while time.monotonic() < end:
        time.sleep(0.25)
        ready = "return window.viewer !== undefined && window.viewer.isReady()"
        if not browser.execute_script(ready):
            continue
        current = browser.get_screenshot_as_png()
        if current == previous:
            return Image.open(io.BytesIO(current)).convert("RGB")
        previous = current
    raise TimeoutError(
        f"not ready after {seconds} s: {facts(browser)}, {browser.get_log('browser')}"
    )


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
    parser.add_argument("--seconds", type=float, default=40, help="how long to wait for it")
    arguments, options = parser.parse_known_args()
    with served(arguments.config, *options) as address, chromium(*arguments.size) as browser:
        browser.get(address)
        settled(browser, arguments.seconds).save(arguments.picture, optimize=True)
        for name, found in facts(browser).items():
            sys.stdout.write(f"{name:12} {found}\n")


if __name__ == "__main__":
    _main()
