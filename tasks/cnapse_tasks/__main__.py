"""One worker process: ``python -m cnapse_tasks URL OPTIONS``, the options of `work` as JSON."""

from __future__ import annotations

import json
import sys

from cnapse.errors import one_line_errors
from cnapse_tasks import logs
from cnapse_tasks.worker import log, work


def main() -> None:
    """Work as a pool's process."""
    url, options = sys.argv[1], json.loads(sys.argv[2])
    logs.configure(options.pop("log_format", "text"))
    with one_line_errors("cnapse"):
        report = work(url, **options)
    log.info("worker ended: %d tasks done, %d failed", report.executed, report.failed)


main()
