"""What several tests share: real data if it is there, and a small tissue made by hand."""

import contextlib
import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from hypothesis import settings
from scipy import ndimage
from scipy.spatial import cKDTree

from cnapse.config import Config
from cnapse.geometry import Box
from cnapse.phantom import PhantomSpec
from cnapse.store import Store
from cnapse.volumes.writer import create_layer
from cnapse_cli.phantom import write_phantom
from cnapse_tasks import attendant, dispatch, driver
from cnapse_tasks.task import forget_contexts
from cnapse_tasks.worker import work

# How long an example takes says more about the machine than about the code.
settings.register_profile("cnapse", parent=settings.default, deadline=None)
settings.load_profile("cnapse")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real EM beside the project; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("CNAPSE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "vnc_sstem" / "raw.tif").is_file():
        pytest.skip(f"no real data at {path} (set CNAPSE_SHARED_DATA)")
    return path


@dataclass(frozen=True)
class Tissue:
    """Columns of cells with a gap, and densities on some membranes; as arrays and as layers."""

    box: Box
    cells: np.ndarray
    probability: np.ndarray
    folder: Path

    def config(self, output: Path, **changes) -> Config:
        """A run from the probability map on, by both methods of assignment."""
        values = {
            "output": f"file://{output}",
            "resolution": self.box.resolution,
            "layers": {
                "probability": f"file://{self.folder}/probability",
                "cells": f"file://{self.folder}/cells",
            },
            "label": {"min_voxels": 5},
            "assign": {"method": "both"},
            # What is made for the viewer has tests of its own (tests/tasks/test_viewer_stages.py).
            "viewer": {"properties": False, "annotations": False},
            "block": (64, 64, 8),
        }
        return Config.from_dict(values | changes)


@pytest.fixture(scope="session")
def tissue(tmp_path_factory) -> Tissue:
    """Made without the phantom's code: a second, independent source of cells and densities."""
    rng = np.random.default_rng(11)
    shape = (150, 110, 20)
    box = Box.from_shape(shape, (4, 4, 50), (1001, -37, 7))
    sites = rng.random((40, 2)) * shape[:2]
    plane = np.stack(np.meshgrid(*map(np.arange, shape[:2]), indexing="ij"), axis=-1)
    cells = np.zeros(shape, np.uint64, order="F")
    for z in range(shape[2]):
        drift = 3 * np.stack([np.sin(z / 5 + np.arange(40)), np.cos(z / 7 + np.arange(40))], -1)
        distance, nearest = cKDTree(sites + drift).query(plane, k=2)
        apart = distance[..., 1] - distance[..., 0] >= 3
        cells[:, :, z] = np.where(apart, nearest[..., 0] * 1000 + 7, 0)
    rim = (ndimage.minimum_filter(cells, (9, 9, 1)) == 0) & (cells > 0)
    probability = np.zeros(shape, np.uint8, order="F")
    for x, y, z in rng.integers((8, 8, 1), (142, 102, 18), (40, 3)):
        part = (slice(x - 7, x + 7), slice(y - 7, y + 7), slice(z - 1, z + 2))
        density = rim[part] & (cells[part] == cells[x, y, z]) & (cells[x, y, z] > 0)
        probability[part][density] = 150 + z
    folder = tmp_path_factory.mktemp("tissue")
    for name, kind, array in (
        ("probability", "image", probability),
        ("cells", "segmentation", cells),
    ):
        writer = create_layer(
            folder / name, kind=kind, dtype=array.dtype, bounds=box, chunk_size=(32, 32, 4)
        )
        writer.write(array, box)
    return Tissue(box, cells, probability, folder)


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[Config], dict[str, str]]:
    """Hashes of all that a run made, but for records and provenance."""

    def of(config: Config) -> dict[str, str]:
        store = Store(config.output)
        return {
            name: hashlib.sha256(store.read(name)).hexdigest()
            for name in store.names()
            if not name.startswith(".cnapse/") and not name.endswith("provenance")
        }

    return of


class _WorkerHere:
    """In place of a pool of processes: works the queue off whenever the driver looks after it."""

    def __init__(
        self, url: str, count: int, options: Mapping[str, object], folder: Path | None = None
    ) -> None:
        self._url, self._lease = url, options["lease_seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def start(self) -> None:
        # A new process knows of no run.
        forget_contexts()

    def replace_dead(self) -> list[int]:
        work(self._url, lease_seconds=self._lease, idle_seconds=0)
        return []


@pytest.fixture(scope="session")
def run_here() -> Callable[..., None]:
    """`run_stages` with its worker in this process, where what is tested is not the processes.

    The driver, the queue, the ledger and the worker are those of a run; a process less is started,
    which takes longer than all the stages of the tests' tissue.
    """

    def run(config: Config, progress: dispatch.Progress | None = None, **options: object) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(driver, "WorkerPool", _WorkerHere)
            patched.setattr(attendant, "_LOOK_SECONDS", 0.01)
            driver.run_stages(config, driver.Options(**options), progress)

    return run


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """The session's phantom: layers image and cells, and the truth."""
    folder = tmp_path_factory.mktemp("phantom") / "tissue"
    spec = PhantomSpec((400, 384, 22), seed=77, voxel_offset=(1003, -501, 40))
    assert write_phantom(spec, folder) >= 5
    return folder


@dataclass(frozen=True)
class Aws:
    """An S3 and SQS server on loopback: moto, which keeps all in memory."""

    endpoint: str

    def bucket(self, name: str) -> str:
        """Make a bucket; its URL."""
        self.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"

    def queue(self, name: str, **attributes: str) -> str:
        """Make a queue; its URL."""
        self.client("sqs").create_queue(QueueName=name, Attributes=attributes)
        return f"sqs://{name}"

    def client(self, service: str):
        """A boto3 client."""
        import boto3

        return boto3.client(service)

    def reset(self) -> None:
        """Forget all buckets and queues."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory) -> Iterator[Aws]:
    """The server's process; tests take `aws`."""
    for name in ("moto", "flask", "flask_cors"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'moto[s3,sqs]' flask flask-cors")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    said = tmp_path_factory.mktemp("moto") / "moto.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Aws(f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{server.endpoint}/moto-api/data.json", timeout=5).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"moto did not start: {said.read_text()[-500:]}")
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def aws(aws_server, monkeypatch, tmp_path) -> Iterator[Aws]:
    """Loopback S3 and SQS for this test and the processes it starts: ``s3://``, ``sqs://``."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    environment = {
        "AWS_ENDPOINT_URL": aws_server.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        # cloud-files 6 fails on keys from the environment without one.
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-aws-credentials"),
        "CLOUD_FILES_DIR": str(tmp_path / "cloudfiles"),
        "CLOUD_VOLUME_DIR": str(tmp_path / "cloudvolume"),
        "no_proxy": "127.0.0.1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield aws_server
    aws_server.reset()
