"""`cnapse view` in a real browser: headless Chromium, WebGL in software."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnapse.viewing.connections import Connections
from cnapse.viewing.exhibit import Aim, exhibit, local_folders
from cnapse.viewing.server import LayerServer

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install selenium"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1200,800",
)
_READY = "return window.viewer !== undefined && window.viewer.isReady()"
_LAYERS = """return window.viewer.layerManager.managedLayers.map(
    l => [l.name, l.layer.dataSources.every(s => s.loadState && !s.loadState.error)])"""


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("SE_OFFLINE", "true")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    yield driver
    driver.quit()


def shown(browser: Any, seconds: float = 40) -> np.ndarray:
    """The picture on the screen, once nothing is loaded any more."""
    end = time.monotonic() + seconds
    previous = b""
    while time.monotonic() < end:
        time.sleep(0.7)
        if not browser.execute_script(_READY):
            continue
        current = browser.get_screenshot_as_png()
        if current == previous:
            return np.asarray(Image.open(io.BytesIO(current)).convert("RGB")).astype(int)
        previous = current
    raise AssertionError(f"not ready after {seconds} s: {browser.get_log('browser')}")


def test_all_layers_are_drawn(browser: Any, finished_run: Path, connections: Connections) -> None:
    folders = {"image": "image", "probability": "probability", "cells": "cells"}
    paths = {name: f"file://{finished_run}/{p}" for name, p in folders.items()}
    paths["synapses"] = f"file://{finished_run}/out/synapses"
    with LayerServer(local_folders(paths)) as server:
        aim = Aim.at_synapse(connections, 7)
        address = exhibit(
            server, paths, (4.0, 4.0, 50.0), aim, connections=connections, contrast=(20, 200)
        )
        browser.get(address)
        picture = shown(browser)
        layers = browser.execute_script(_LAYERS)
        browser.get("about:blank")
    if folder := os.environ.get("CNAPSE_SCREENSHOTS"):
        Image.fromarray(picture.astype(np.uint8)).save(Path(folder) / "view.png")
    assert layers == [
        [name, True] for name in ("image", "probability", "cells", "synapses", "partners")
    ]
    left = picture[60:, :590]
    red, green, blue = (left[..., i] for i in range(3))
    assert ((red - blue > 80) & (green - blue > 80)).sum() > 100, "no yellow synapse"
    assert (blue - red > 25).sum() > 5000, "no blue presynaptic cell"
    assert ((green - red > 15) & (green - blue > 5)).sum() > 1000, "no green partner"
    assert (left.std(axis=2) < 1).sum() > 20_000, "no grey image"
    serious = [
        entry
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
    assert serious == []
