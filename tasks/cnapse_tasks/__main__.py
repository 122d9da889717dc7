"""A local worker: ``python -m cnapse_tasks URL LEASE_SECONDS``."""

from cnapse_tasks.worker import main

main()
