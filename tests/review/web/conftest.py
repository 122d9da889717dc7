"""The application over the small run of the tests of the review."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from starlette.testclient import TestClient

from cnapse.review.log import DecisionLog
from cnapse.review.web.app import create_app
from cnapse.review.web.desk import Desk
from cnapse.review.web.security import Keys

TOKEN = "t" * 32
WRITES = {"X-Cnapse-Review": "1"}


@dataclass(frozen=True)
class Served:
    """An application, its log, and clients who know the token."""

    app: object
    log: DecisionLog
    keys: Keys

    def client(self, reviewer: str | None = None) -> TestClient:
        """A browser, in which somebody may have signed in."""
        client = TestClient(
            self.app, base_url="http://127.0.0.1:8000",
            headers={"Authorization": f"Bearer {TOKEN}", **WRITES}, raise_server_exceptions=False,
        )  # fmt: skip
        if reviewer:
            assert client.post("/api/session", json={"reviewer": reviewer}).status_code == 200
        return client


@pytest.fixture
def served(reviewed, tmp_path) -> Iterator[Served]:
    keys = Keys(TOKEN)
    with DecisionLog(tmp_path / "log.sqlite") as log:
        app = create_app(Desk(reviewed.run, log), keys, viewer=lambda i: f"http://127.0.0.1:1/{i}")
        yield Served(app, log, keys)
