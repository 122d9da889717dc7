"""The interface keeps what its OpenAPI document says: asked by schemathesis."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import ignored_auth


def ask(served, examples: int) -> None:
    client = served.client("Ann")
    headers = {
        **dict(client.headers),
        "Cookie": f"{served.keys.name_name}={served.keys.signed('Ann')}",
    }
    document = client.get("/api/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.app = served.app
    for operation in schema.get_all_operations():
        one = operation.ok()

        @given(case=one.as_strategy())
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case) -> None:
            # Which it asks with the same headers; `test_gate` asks without.
            case.call_and_validate(
                headers=headers, base_url="http://127.0.0.1:8000", excluded_checks=[ignored_auth]
            )

        check()


def test_the_interface_is_as_described(served) -> None:
    ask(served, 6)


@pytest.mark.soak
def test_the_interface_is_as_described_for_long(served) -> None:
    ask(served, 300)
