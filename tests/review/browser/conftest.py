"""A run with mistakes in it, `cnapse review` in its own process, and reviewers who use keys."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnapse.config import Config, load_config
from cnapse.geometry import Box
from cnapse.phantom import PhantomSpec
from cnapse.runs import open_run
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_cli.phantom import write_phantom

# Names are data: this one would be seen if a page took it for its own.
EVIL = "<i class=evil>x</i>"
RESOLUTION = (8.0, 8.0, 50.0)
PATIENCE_MS = 60_000
_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FALSE_ONES = 6
_CONFIG = """
output = "run"
resolution = [8, 8, 50]
names = "names.csv"

[layers]
image = "tissue/image"
probability = "probability"
cells = "tissue/cells"

[label]
min_voxels = 15

[assign]
min_share = 0.35

[viewer]
properties = false
annotations = false
"""


@dataclass(frozen=True)
class Truth:
    """What a perfect reviewer knows: the synapse of the phantom that each object is.

    Attributes
    ----------
    pre : mapping of str to str
        Presynaptic cell by id of the run's object; no entry: the object is no synapse.
    shares : mapping of str to mapping of str to float
        Shares of the postsynaptic cells.
    """

    pre: dict[str, str]
    shares: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Faulty:
    """A run whose objects are not all synapses, and whose partners are not all there."""

    folder: Path
    truth: Truth

    @property
    def config(self) -> Path:
        return self.folder / "cnapse.toml"


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory, run_here: Callable[[Config], None]) -> Faulty:
    """A phantom's run with invented objects, and without partners of small shares."""
    folder = tmp_path_factory.mktemp("review")
    spec = PhantomSpec((400, 400, 32), resolution=RESOLUTION, seed=7)
    assert write_phantom(spec, folder / "tissue") > 50
    real = open_layer(folder / "tissue/truth/probability")
    box = real.bounds
    probability = real.read(box)
    _invent(probability)
    writer = create_layer(
        folder / "probability", kind="image", dtype=np.uint8, bounds=box, chunk_size=(64, 64, 16)
    )
    writer.write(probability, box)
    (folder / "cnapse.toml").write_text(_CONFIG)
    cells = pd.read_csv(folder / "tissue/truth/partners.csv", dtype=str)["post_id"].unique()
    rows = [f'{cell},"{EVIL} {number}"' for number, cell in enumerate(cells)]
    (folder / "names.csv").write_text("\n".join(["id,name", *rows]) + "\n")
    run_here(load_config(folder / "cnapse.toml"))
    return Faulty(folder, _truth(folder, box))


def _invent(probability: np.ndarray) -> None:
    """Objects where there is nothing for 15 voxels around."""
    rng = np.random.default_rng(5)
    made = 0
    while made < _FALSE_ONES:
        x, y, z = rng.integers((20, 20, 3), np.array(probability.shape) - (20, 20, 3))
        around = probability[x - 15 : x + 15, y - 15 : y + 15, z - 3 : z + 3]
        if not around.any():
            probability[x - 4 : x + 4, y - 4 : y + 4, z - 1 : z + 1] = 200
            made += 1


def _truth(folder: Path, box: Box) -> Truth:
    kinds = {"syn_id": str, "pre_id": str, "post_id": str}
    synapses = pd.read_csv(folder / "tissue/truth/synapses.csv", dtype=kinds)
    partners = pd.read_csv(folder / "tissue/truth/partners.csv", dtype=kinds)
    pre_of = dict(zip(synapses["syn_id"], synapses["pre_id"], strict=True))
    real = open_layer(folder / "tissue/truth/objects").read(box)
    found = open_layer(folder / "run/synapses").read(box)
    pre: dict[str, str] = {}
    shares: dict[str, dict[str, float]] = {}
    for syn_id in np.unique(found[found > 0]):
        below = real[(found == syn_id) & (real > 0)]
        if not below.size:
            continue
        values, counts = np.unique(below, return_counts=True)
        name = str(values[counts.argmax()])
        own = partners[partners["syn_id"] == name]
        pre[str(syn_id)] = pre_of[name]
        shares[str(syn_id)] = dict(zip(own["post_id"], own["share"], strict=True))
    return Truth(pre, shares)


@dataclass
class Server:
    """`cnapse review` as people start it; may be killed and started again on the same port."""

    config: Path
    log: Path
    port: int = 0
    address: str = ""
    process: subprocess.Popen[str] | None = None
    listener: threading.Thread | None = None
    said: list[str] = field(default_factory=list)

    def start(self) -> None:
        with socket.socket() as probe:
            if not self.port:
                probe.bind(("127.0.0.1", 0))
                self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "cnapse_cli", "review", str(self.config)]
        command += ["--no-browser", "--port", str(self.port), "--log", str(self.log)]
        self.process = subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.said = []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            links = [line for line in self.said if line.startswith("http")]
            if links and _answers(self.port):
                self.address = links[0].strip()
                return
            time.sleep(0.05)
        raise RuntimeError(f"cnapse review did not start: {self.said}")

    def _listen(self) -> None:
        if self.process and self.process.stdout:
            with self.process.stdout as lines:
                self.said.extend(lines)

    def kill(self) -> None:
        """As a power cut: nothing is closed, nothing is written any more."""
        if self.process:
            self.process.kill()
            self.process.wait(30)
        if self.listener:
            self.listener.join(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _serving(faulty: Faulty, folder: Path) -> Iterator[Server]:
    made = Server(faulty.config, folder / "log.sqlite")
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def server(faulty: Faulty, tmp_path: Path) -> Iterator[Server]:
    """A server with an empty log, for one test."""
    with _serving(faulty, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def shared(faulty: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests that do not mind what others have decided."""
    with _serving(faulty, tmp_path_factory.mktemp("shared")) as made:
        yield made


# An event loop runs as long as this is open, in which tests of other modules could not run theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not _CHROMIUM:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=_CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"],
            timeout=PATIENCE_MS,
        )
        yield opened
        opened.close()


@dataclass
class Reviewer:
    """A person at a browser of their own, who uses the keyboard alone."""

    name: str
    page: Any
    complaints: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def see(self, selector: str) -> Any:
        """An element, once it is there."""
        return self.page.wait_for_selector(selector, timeout=PATIENCE_MS)

    def until(self, condition: str, argument: object = None) -> None:
        """Wait for something that JavaScript can tell."""
        self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE_MS)

    def tell(self, program: str) -> Any:
        return self.page.evaluate(program)

    def waiting(self) -> int:
        """Decisions that the page calls not saved yet."""
        return int(self.tell("() => document.querySelector('.save').dataset.waiting"))

    def saved(self) -> None:
        self.until("() => document.querySelector('.save').dataset.waiting === '0'")

    def tiles(self) -> list[str]:
        """Synapses of the page of tiles."""
        found = "() => [...document.querySelectorAll('.tile')].map(tile => tile.dataset.syn)"
        return list(self.tell(found))


@contextmanager
def reviewing(browser: Any, server: Server, name: str, size: tuple[int, int]) -> Iterator[Reviewer]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    person = Reviewer(name, page)
    page.on("pageerror", lambda error: person.complaints.append(str(error)))
    try:
        page.goto(server.address)
        person.see("#reviewer")
        person.type(name)
        person.press("Enter")
        person.see(".tile")
        yield person
    finally:
        context.close()


@pytest.fixture
def person(browser: Any, shared: Server) -> Iterator[Reviewer]:
    with reviewing(browser, shared, "Anna", (1366, 768)) as opened:
        yield opened
        assert opened.complaints == []


@pytest.fixture
def at_size(browser: Any, shared: Server) -> Callable[[tuple[int, int]], Any]:
    """A reviewer before a screen of this size."""
    return lambda size: reviewing(browser, shared, "Anna", size)


@pytest.fixture
def two(browser: Any, server: Server) -> Iterator[tuple[Reviewer, Reviewer]]:
    small, large = (900, 640), (1024, 700)
    with (
        reviewing(browser, server, "Anna", large) as anna,
        reviewing(browser, server, "Bén <i>", small) as ben,
    ):
        yield anna, ben
        assert anna.complaints + ben.complaints == []


@pytest.fixture
def synapses(faulty: Faulty) -> pd.DataFrame:
    """The run's table, as the reviewers find it."""
    return open_run(faulty.config).synapses
