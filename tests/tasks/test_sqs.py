"""Runs over a queue of SQS and a bucket, by processes that are killed, doubled and told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnapse.config import Config
from cnapse.errors import ConfigError, StorageError
from cnapse.store import Store
from cnapse_tasks.queues import count, create_queue, lease, open_queue

ROOT = Path(__file__).parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("", "tasks", "scripts")),
    "OMP_NUM_THREADS": "1",
}


def command(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cnapse_cli", *map(str, arguments)],
        env={**os.environ, **ENV},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def stopped():
    """Processes that end with the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def local(tissue, tmp_path_factory, fingerprint, run_here) -> dict[str, str]:
    """What one process on one disk makes."""
    config = tissue.config(tmp_path_factory.mktemp("local") / "out")
    run_here(config)
    return fingerprint(config)


def written(config: Config, folder: Path) -> Path:
    """A configuration as a file: TOML from JSON's subset that both share."""
    lines = []

    def put(values: dict, prefix: str) -> None:
        tables = {k: v for k, v in values.items() if isinstance(v, dict)}
        for name, value in values.items():
            if value is not None and not isinstance(value, dict):
                lines.append(f"{name} = {json.dumps(value)}")
        for name, table in tables.items():
            lines.append(f"[{prefix}{name}]")
            put(table, f"{prefix}{name}.")

    put(config.model_dump(mode="json", exclude_defaults=True), "")
    path = folder / "cnapse.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_bucket_and_a_queue_give_the_bytes_of_a_disk(
    aws, tissue, tmp_path, local, fingerprint, stopped
) -> None:
    """Two drivers at once, two workers; one driver is killed, a message is no task."""
    bucket = aws.bucket("cnapse-run")
    queue = "sqs://cnapse-run"
    create_queue(queue)
    aws.client("sqs").send_message(
        QueueUrl=aws.client("sqs").get_queue_url(QueueName="cnapse-run")["QueueUrl"],
        MessageBody="rubbish",
    )
    config = tissue.config(tmp_path).model_copy(update={"output": f"{bucket}/out"})
    path = written(config, tmp_path)
    workers = [command("worker", queue, "--lease", 10, "--log-format", "json") for _ in range(2)]
    drivers = [command("run", path, "--queue", queue) for _ in range(2)]
    stopped += workers + drivers
    store = Store(config.output).child(".cnapse")
    until = time.monotonic() + 150
    while not store.names("measure/done") and time.monotonic() < until:
        time.sleep(0.2)
    drivers[0].kill()
    assert "synapses" in finished(drivers[1])
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for w in workers for line in finished(w).splitlines()]
    assert fingerprint(config) == local
    done = [line for line in lines if line.get("outcome") == "done"]
    assert {line["stage"] for line in done} >= {"label", "stitch", "measure", "assign", "export"}
    assert all(line["host"] and line["pid"] and line["seconds"] >= 0 for line in done)
    block = next(line["block"] for line in done if line["task"] == "label/0")
    assert block[0] == list(tissue.box.start)
    assert any("no task of cnapse's" in line["message"] for line in lines)
    assert not store.names("entrance")[1:]


def test_a_queue_is_counted_and_missing_ones_are_named(aws) -> None:
    with pytest.raises(ConfigError, match=r"queue sqs://nowhere does not exist .*--create"):
        open_queue("sqs://nowhere")
    assert create_queue("sqs://some") == ["sqs://some", "sqs://some-dead"]
    # Once more changes nothing.
    create_queue("sqs://some")
    queue = open_queue("sqs://some")
    queue.api.insert([{"payload": "x"}] * 3)
    assert lease(queue, 60) is not None
    counts = count(queue)
    assert (counts.waiting, counts.leased, counts.dead) == (2, 1, 0)
    assert counts.dead_letters == "some-dead"
    with pytest.raises(ConfigError, match="names have letters"):
        open_queue("sqs://a/b")


def test_refused_credentials_are_one_line(aws, monkeypatch) -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    from cnapse_tasks import queues

    def refusing(error):
        def get_queue_url(**_):
            raise error

        client = type("Client", (), {"get_queue_url": staticmethod(get_queue_url)})
        monkeypatch.setattr(queues, "_client", lambda: client)

    def answer(code):
        return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetQueueUrl")

    for error, told in (
        (answer("ExpiredToken"), "queue sqs://some: your credentials have expired: get new ones"),
        (answer("AccessDenied"), "queue sqs://some: access denied"),
        (EndpointConnectionError(endpoint_url="http://x"), "cannot be reached"),
    ):
        refusing(error)
        with pytest.raises(StorageError, match=told) as raised:
            open_queue("sqs://some")
        assert "\n" not in str(raised.value)
