"""python-task-queue's queues, opened, asked and filled so that every failure is one line.

What it does not do is done here: messages that are no tasks, credentials with a session token,
parts of a batch that a server refuses, and waiting an hour for a queue that does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskqueue import TaskQueue

from cnapse.errors import CnapseError, ConfigError, storage_error
from cnapse.faults import is_of_a_client, remote_error

__all__ = [
    "Counts",
    "Message",
    "count",
    "create_queue",
    "delete",
    "insert",
    "is_sqs",
    "lease",
    "open_queue",
    "purge",
    "renew",
]

_FORMS = "give fq://FOLDER or sqs://NAME"
_SQS_ADDRESS = re.compile(r"(sqs://)?https?://sqs[.\w-]*\.amazonaws\.com/")
_SENDERS = 8
# Two weeks, the most there is; by default SQS forgets what waits longer than four days.
_KEPT_SECONDS = 14 * 24 * 3600
# A message that is no task comes back for ever otherwise; tasks count their tries themselves.
_RECEIVED_BEFORE_DEAD = 50


@dataclass(frozen=True, slots=True)
class Message:
    """What a queue handed out: a task, or what is none, and why."""

    raw: Any
    task: Any = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages a queue holds; approximate in SQS, up to a minute old."""

    waiting: int
    leased: int
    delayed: int = 0
    dead: int | None = None
    """In its dead-letter queue, if it has one."""
    dead_letters: str = ""
    """The dead-letter queue's name."""


def is_sqs(url: str) -> bool:
    """Whether a URL names a queue of SQS."""
    return url.startswith("sqs://") or _SQS_ADDRESS.match(url) is not None


def open_queue(url: str, *, create: bool = True) -> TaskQueue:
    """A queue by its URL: ``fq://folder``, ``sqs://name``, or the address of one in SQS.

    Parameters
    ----------
    url : str
    create : bool
        Whether a folder that is not there is made; the one it lies in must be.

    Raises
    ------
    ConfigError
        If the URL is of no protocol that cnapse uses, or there is no such queue.
    StorageError
        If the folder cannot be written to, or the server refuses or cannot be reached.
    """
    if is_sqs(url):
        with _errors(url):
            name = _sqs_name(url)
            if not _SQS_ADDRESS.match(url):
                # python-task-queue would try several times, and print.
                _client().get_queue_url(QueueName=name)
            return TaskQueue(
                name if _SQS_ADDRESS.match(name) else url,
                progress=False,
                n_threads=1,
                **_connection(),
            )
    folder = _folder(url)
    try:
        if create:
            folder.mkdir(exist_ok=True)
        elif not (folder / "queue").is_dir():
            raise ConfigError(f"there is no queue in {folder}: make it with --create")
        queue = TaskQueue(f"fq://{folder}", progress=False, n_threads=0)
        for part in ("queue", "movement"):
            # A folder that cannot be listed or written to would be an empty queue.
            with os.scandir(folder / part) as entries:
                next(entries, None)
            if not os.access(folder / part, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
    except CnapseError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(
            f"queue {url}: there is no folder {folder.parent}: check the path, or make it"
        ) from error
    except OSError as error:
        raise storage_error(error, folder) from error
    return queue


def create_queue(url: str) -> list[str]:
    """Make a queue; in SQS with a dead-letter queue beside it, ``NAME-dead``.

    Returns
    -------
    list of str
        What was made, or was there already.
    """
    if not is_sqs(url):
        folder = _folder(url)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        open_queue(url)
        return [f"fq://{folder}"]
    name = _sqs_name(url)
    if _SQS_ADDRESS.match(url):
        raise ConfigError(f"{url}: to make a queue give its name, sqs://NAME")
    with _errors(url):
        client = _client()
        kept = {"MessageRetentionPeriod": str(_KEPT_SECONDS)}
        dead = client.create_queue(QueueName=f"{name}-dead", Attributes=kept)["QueueUrl"]
        known = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        redrive = {
            "deadLetterTargetArn": known["Attributes"]["QueueArn"],
            "maxReceiveCount": str(_RECEIVED_BEFORE_DEAD),
        }
        client.create_queue(
            QueueName=name, Attributes=kept | {"RedrivePolicy": json.dumps(redrive)}
        )
    return [f"sqs://{name}", f"sqs://{name}-dead"]


def lease(queue: TaskQueue, seconds: float, wait: float = 0.0) -> Message | None:
    """Take one message out of the others' sight, or None if there is none.

    Parameters
    ----------
    queue : TaskQueue
    seconds : float
        How long it stays out of sight.
    wait : float
        SQS only: how long to wait for one, at most 20 s.
    """
    with _errors(queue.qurl):
        raw = _lease_sqs(queue, seconds, wait) if _on_sqs(queue) else _lease_folder(queue, seconds)
    if raw is None or "body" in raw:
        return None if raw is None else Message(raw, problem=f"no JSON: {raw['body'][:80]!r}")
    from taskqueue.queueables import totask

    try:
        task = totask(raw)
        task.key  # noqa: B018 - what is no task has none
    except Exception as error:
        return Message(raw, problem=f"{type(error).__name__}: {error}")
    return Message(raw, task)


def renew(queue: TaskQueue, message: Message, seconds: float) -> None:
    """Keep a message from the others for so long from now; 0 gives it back at once."""
    whole = math.ceil(seconds)
    with _errors(queue.qurl):
        if _on_sqs(queue):
            queue.api.sqs.change_message_visibility(
                QueueUrl=queue.api.qurl, ReceiptHandle=message.raw["id"], VisibilityTimeout=whole
            )
        else:
            queue.api.renew_lease(message.raw, whole)


def delete(queue: TaskQueue, message: Message) -> None:
    """Take a message out of its queue."""
    with _errors(queue.qurl):
        queue.api.delete(message.raw)


def insert(queue: TaskQueue, tasks: Iterable[Callable[[], object]]) -> None:
    """Put tasks into a queue, in batches, and over several connections to SQS."""
    with _errors(queue.qurl):
        if not _on_sqs(queue):
            queue.insert(tasks, skip_insert_counter=True)
            return
        stream = iter(tasks)
        batches = iter(lambda: list(itertools.islice(stream, queue.api.batch_size)), [])
        with ThreadPoolExecutor(_SENDERS) as senders:
            insert_batch = functools.partial(queue.insert, skip_insert_counter=True)
            for _ in senders.map(insert_batch, batches):
                pass


def count(queue: TaskQueue) -> Counts:
    """How many messages wait in a queue, and are leased."""
    with _errors(queue.qurl):
        if not _on_sqs(queue):
            leased = queue.leased
            return Counts(waiting=max(0, queue.enqueued - leased), leased=leased)
        names = ("", "NotVisible", "Delayed")
        wanted = [f"ApproximateNumberOfMessages{name}" for name in names]
        client, address = queue.api.sqs, queue.api.qurl
        found = client.get_queue_attributes(
            QueueUrl=address, AttributeNames=[*wanted, "RedrivePolicy"]
        )["Attributes"]
        waiting, leased, delayed = (int(found[name]) for name in wanted)
        counts = Counts(waiting, leased, delayed)
        if "RedrivePolicy" not in found:
            return counts
        name = json.loads(found["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        dead_address = client.get_queue_url(QueueName=name)["QueueUrl"]
        dead = client.get_queue_attributes(QueueUrl=dead_address, AttributeNames=wanted[:1])
        return Counts(waiting, leased, delayed, int(dead["Attributes"][wanted[0]]), name)


def purge(queue: TaskQueue) -> None:
    """Delete every message of a queue."""
    with _errors(queue.qurl):
        queue.purge(native=True)


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    """Say what a queue's server or folder refuses in one line.

    Raises
    ------
    ConfigError
        If there is no such queue.
    StorageError
        If credentials are missing, expired or do not suffice, or it cannot be reached.
    """
    try:
        yield
    except CnapseError:
        raise
    except OSError as error:
        raise storage_error(error, url) from error
    except Exception as error:
        cause = _said_by_server(error)
        if not is_of_a_client(cause):
            raise
        raise _server_line(url, cause) from error


def _said_by_server(error: Exception) -> Exception:
    """What SQS said: python-task-queue wraps what it refuses."""
    if type(error).__name__ == "ClientSideError" and error.args:
        inner = error.args[0]
        return inner if isinstance(inner, Exception) else error
    return error


def _server_line(url: str, error: Exception) -> CnapseError:
    response = getattr(error, "response", None)
    code = str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return ConfigError(
            f"queue {url} does not exist{_in_region()}: make it with `cnapse queue {url} --create`"
        )
    return remote_error(error, f"queue {url}", retried=False)


def _in_region() -> str:
    region = _connection().get("region_name", "us-east-1")
    return f" in region {region}"


def _connection() -> dict[str, str]:
    """What python-task-queue does not take from the environment by itself."""
    import boto3  # type: ignore[import-untyped]
    from taskqueue.secrets import aws_credentials

    found = {"region_name": boto3.Session().region_name or "us-east-1"}
    given = aws_credentials()
    token = given.get("AWS_SESSION_TOKEN")
    if token is None and given.get("AWS_ACCESS_KEY_ID") == os.environ.get("AWS_ACCESS_KEY_ID"):
        token = os.environ.get("AWS_SESSION_TOKEN")
    if token and given.get("AWS_ACCESS_KEY_ID"):
        found["aws_session_token"] = token
    return found


def _client() -> Any:
    import boto3
    from taskqueue.secrets import aws_credentials

    given = aws_credentials()
    return boto3.client(
        "sqs",
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
        **_connection(),
    )


def _folder(url: str) -> Path:
    protocol, _, path = url.partition("://")
    if protocol != "fq" or not path:
        raise ConfigError(f"{url!r} is no queue: {_FORMS}")
    return Path(path).expanduser().absolute()


def _sqs_name(url: str) -> str:
    """What python-task-queue is given: a queue's name, or its address."""
    name = url.removeprefix("sqs://")
    if not _SQS_ADDRESS.match(url) and not re.fullmatch(r"[\w-]{1,80}(\.fifo)?", name):
        raise ConfigError(f"{url!r} is no queue: names have letters, digits, - and _: {_FORMS}")
    return name


def _on_sqs(queue: TaskQueue) -> bool:
    return bool(queue.path.protocol == "sqs")


def _lease_sqs(queue: TaskQueue, seconds: float, wait: float) -> dict[str, Any] | None:
    answer = queue.api.sqs.receive_message(
        QueueUrl=queue.api.qurl,
        MaxNumberOfMessages=1,
        VisibilityTimeout=int(seconds),
        WaitTimeSeconds=max(0, min(20, int(wait))),
    )
    for message in answer.get("Messages", ()):
        handle = message["ReceiptHandle"]
        try:
            raw = json.loads(message["Body"])
        except ValueError:
            return {"id": handle, "body": message["Body"]}
        if not isinstance(raw, dict):
            return {"id": handle, "body": message["Body"]}
        return raw | {"id": handle}
    return None


def _lease_folder(queue: TaskQueue, seconds: float) -> dict[str, Any] | None:
    from taskqueue import QueueEmptyError

    try:
        found = queue.api.lease(int(seconds), 1)
    except (QueueEmptyError, ValueError):
        # What cannot be parsed is out of sight for a lease by now.
        return None
    return found[0] if found else None
