"""`cnapse queue`, `cnapse worker`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cnapse.errors import ConfigError

__all__ = ["queue", "worker"]

QueueUrl = Annotated[
    str,
    typer.Argument(help="URL of the queue: fq://FOLDER or sqs://NAME.", show_default=False),
]


def queue(
    url: QueueUrl,
    create: Annotated[
        bool, typer.Option("--create", help="Make it; in SQS with a dead-letter queue, NAME-dead.")
    ] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete all that is in it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --purge.")] = False,
) -> None:
    """Tell what waits in a queue and what workers have at hand; make it, or empty it."""
    from cnapse_tasks import queues

    if create:
        for made in queues.create_queue(url):
            print(f"{made} is there")
    opened = queues.open_queue(url, create=False)
    counts = queues.count(opened)
    about = "about " if queues.is_sqs(url) else ""
    if purge:
        if not yes:
            typer.confirm(
                f"delete {about}{counts.waiting + counts.leased} messages of {url}?", abort=True
            )
        queues.purge(opened)
        print(f"{url} is empty")
        return
    print(f"{about}{counts.waiting} wait, {counts.leased} are leased")
    if counts.delayed:
        print(f"{about}{counts.delayed} wait for their next try")
    if counts.dead is not None:
        print(f"{about}{counts.dead} dead letters in {counts.dead_letters}")


def worker(
    url: QueueUrl,
    lease: Annotated[
        int, typer.Option(help="Seconds a task is kept from others; renewed while it runs.", min=10)
    ] = 60,
    idle: Annotated[
        float | None,
        typer.Option(help="Stop after so many seconds without a task. Default: never."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            help="GB a process may use; one that uses more ends, and its task is tried again."
        ),
    ] = None,
    stages: Annotated[
        str,
        typer.Option(help="Only these, with commas between; better: a queue of their own."),
    ] = "",
    grace: Annotated[
        float, typer.Option(help="Seconds from SIGTERM until a task is given back.", min=0)
    ] = 25.0,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(help="json: an object a line on standard output, one a task."),
    ] = "text",
) -> None:
    """Work off a queue, until stopped. Ctrl-C ends it after the task at hand; twice, at once."""
    from cnapse_tasks import logs
    from cnapse_tasks.pool import work_in_processes
    from cnapse_tasks.queues import open_queue
    from cnapse_tasks.stages import STAGES
    from cnapse_tasks.worker import log, work

    wanted = [name.strip() for name in stages.split(",") if name.strip()]
    for name in wanted:
        if name not in STAGES:
            raise ConfigError(f"--stages: {name!r} is no stage; they are {', '.join(STAGES)}")
    options: dict[str, object] = {
        "lease_seconds": lease,
        "idle_seconds": idle,
        "grace_seconds": grace,
        "memory_gb": memory_limit,
        "stages": wanted,
        "longest_pause": 2.0,
    }
    open_queue(url)
    if log_format == "text":
        print(f"waiting for tasks in {url}; Ctrl-C ends it after the task at hand", flush=True)
    if workers > 1 or memory_limit is not None:
        work_in_processes(url, workers, {**options, "log_format": log_format})
        return
    logs.configure(log_format)
    report = work(
        url,
        lease_seconds=lease,
        idle_seconds=idle,
        grace_seconds=grace,
        stages=wanted,
        longest_pause=2.0,
    )
    if log_format == "json":
        log.info("worker ended: %d tasks done, %d failed", report.executed, report.failed)
    else:
        print(f"{report.executed} tasks done, {report.failed} failed")
