"""The queue side of cnapse: read, one library call, write, and a record of what is done.

Importing it registers every task with python-task-queue, so a worker needs no more than that.
"""

from cnapse_tasks.task import run_task

__all__ = ["run_task"]
