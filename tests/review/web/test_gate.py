"""Who gets in, and what no answer lacks."""

from __future__ import annotations

import stat

import pytest
from starlette.testclient import TestClient

from cnapse.review.web.security import Hosts, Keys, load_token

ROUTES = [
    "/api/session", "/api/candidates", "/api/progress", "/api/decisions", "/api/export",
    "/api/tiles/9223372036854775808/0", "/api/tiles/at?x=1&y=1&z=1", "/api/labels?x=1&y=1&z=1",
    "/api/synapses/9223372036854775808", "/api/viewer/9223372036854775808", "/api/openapi.json",
]  # fmt: skip


def stranger(served, host: str = "127.0.0.1:8000") -> TestClient:
    return TestClient(served.app, base_url=f"http://{host}", follow_redirects=False)


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_told_without_the_token(served, route) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "cnapse=x; a"}):
        answer = stranger(served).get(route, headers=headers)
        assert answer.status_code == 401
        assert answer.json() == {"detail": "open the link that `cnapse review` printed"}
    assert served.client().get(route).status_code == 200


def test_the_link_gives_a_cookie_that_scripts_cannot_read(served) -> None:
    client = stranger(served)
    assert "set-cookie" not in client.get("/?token=wrong").headers
    answer = client.get(f"/?token={served.keys.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert served.keys.token not in cookie
    assert client.get("/api/session").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "a@127.0.0.1", ""])
def test_other_names_of_this_machine_are_refused(served, host) -> None:
    answer = served.client().get("/api/session", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert Hosts(for_others=True).serve("192.168.1.5:80")
    assert not Hosts().serve("192.168.1.5:80")
    assert Hosts().serve("[::1]:80")
    assert Hosts().serve("localhost")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"X-Cnapse-Review": "0"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "99999999"}, 413),
        ({"Content-Length": "many"}, 411),
        ({"Origin": "http://127.0.0.1:8000"}, 200),
    ],
)
def test_what_another_page_could_send_is_refused(served, change, status) -> None:
    headers = {"Content-Type": "application/json", **change}
    answer = served.client().post("/api/session", content=b'{"reviewer": "A"}', headers=headers)
    assert answer.status_code == status


def test_every_answer_says_what_a_browser_may_do(served) -> None:
    for answer in (
        served.client().get("/api/session"),
        stranger(served).get("/api/session"),
        stranger(served).get("/"),
        stranger(served).get("/no/such"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    ["/../app.py", "/%2e%2e/app.py", "/assets/../../app.py", "/assets/%2e%2e%2f%2e%2e%2fapp.py",
     "/..%5capp.py", "//etc/passwd", "/assets/%00"],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(served, path) -> None:
    answer = served.client().get(path)
    assert answer.status_code in (400, 404)
    assert "create_app" not in answer.text


def test_names_are_signed_and_cookies_are_of_one_log(served) -> None:
    keys, other = Keys("a" * 32), Keys("b" * 32)
    assert keys.ticket_name != other.ticket_name
    client = served.client("Ann")
    name = served.keys.name_name
    value = client.cookies[name]
    for forged in (value[:-1] + "x", f"Qm9i.{value.partition('.')[2]}", "Bob", "."):
        answer = served.client().get("/api/session", headers={"Cookie": f"{name}={forged}"})
        assert answer.json()["reviewer"] is None


def test_the_token_stays_and_is_the_owners_alone(tmp_path) -> None:
    log = tmp_path / "log.sqlite"
    token = load_token(log)
    assert load_token(log) == token
    path = tmp_path / "log.sqlite.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert load_token(log) != token, "others could have read it"


def test_faults_inside_show_nothing_of_them(served, monkeypatch) -> None:
    monkeypatch.setattr(served.log, "standing", lambda: 1 / 0)
    answer = served.client().get("/api/progress")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert "Traceback" not in answer.text
