"""What the page asks for: lists, claims, decisions, pictures, labels."""

from __future__ import annotations

import io
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation

from cnapse.review.web.blocks import HeldBlocks
from cnapse.review.web.sections import Raster, Sections
from cnapse.viewing.palette import SYNAPSE, rgb

FIRST = 2**63


def verdict(syn_id: int, said: str = "true", **more) -> dict:
    new = {"verdict": said, "error": None, "note": "", **more}
    return {"uuid": str(uuid.uuid4()), "action": "verdict", "syn_id": str(syn_id), "new": new}


def test_the_page_is_told_of_the_run(served, reviewed) -> None:
    said = served.client().get("/api/session").json()
    assert said["reviewer"] is None
    assert said["size"] == list(reviewed.box.shape)
    assert said["start_nm"] == list(reviewed.box.start_nm)
    assert said["total"] == 6
    client = served.client("Ann <b>")
    assert client.get("/api/session").json()["reviewer"] == "Ann <b>"


def test_candidates_come_in_order_and_by_page(served) -> None:
    client = served.client("Ann")
    whole = client.get("/api/candidates").json()
    assert whole["total"] == 6
    assert [int(one["syn_id"]) for one in whole["items"]] == [FIRST + i for i in range(5, -1, -1)]
    part = client.get("/api/candidates", params={"offset": 2, "limit": 2}).json()
    assert part["items"] == whole["items"][2:4]
    assert whole["items"][0]["extent"] == [-1, 1]
    client.post("/api/decisions", json=verdict(FIRST + 5, "false", error="merged", note="two"))
    left = client.get("/api/candidates", params={"verdict": "open"}).json()
    assert left["total"] == 5
    for query in ({"verdict": "false"}, {"error": "any"}, {"error": "merged"}):
        [one] = client.get("/api/candidates", params=query).json()["items"]
        assert (one["verdict"], one["error"], one["note"], one["by"]) == (
            "false", "merged", "two", "Ann",
        )  # fmt: skip
    # What is no synapse has no partners to look at.
    assert client.get("/api/candidates", params={"loop": "partners"}).json()["total"] == 5
    assert client.get("/api/candidates", params={"cell": "AVAL"}).status_code == 404


def test_two_reviewers_never_get_the_same(served) -> None:
    clients = [served.client(name) for name in ("Ann", "Bob")]

    def take(client) -> list[str]:
        got = client.post("/api/claim", json={"loop": "candidates", "count": 3}).json()
        return [one["syn_id"] for one in got["items"]]

    with ThreadPoolExecutor(2) as pool:
        ann, bob = pool.map(take, clients)
    assert len(ann) == len(bob) == 3
    assert not set(ann) & set(bob)
    # Nobody takes what another has; what is given back is free.
    renewed = clients[0].post("/api/claim", json={"loop": "candidates", "items": [*ann, *bob]})
    assert [one["syn_id"] for one in renewed.json()["items"]] == ann
    clients[1].post("/api/release", json={"loop": "candidates", "items": bob})
    body = {"loop": "candidates", "count": 6, "exclude": ann[:1]}
    got = clients[0].post("/api/claim", json=body).json()["items"]
    assert {one["syn_id"] for one in got} == {*ann[1:], *bob}


def test_a_decision_is_there_once_and_knows_what_stood_before(served) -> None:
    client = served.client("Ann")
    first = verdict(FIRST)
    answers = [client.post("/api/decisions", json=first) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert len(served.log) == 1
    told = answers[0].json()
    assert (told["reviewer"], told["loop"], told["old"]) == ("Ann", "candidates", None)
    again = client.post("/api/decisions", json=verdict(FIRST, "false")).json()
    assert again["old"]["verdict"] == "true"
    partners = {"pre_id": "7", "partners": [{"post_id": "9", "share": 1}], "note": ""}
    body = {"uuid": str(uuid.uuid4()), "action": "partners", "syn_id": str(FIRST), "new": partners}
    assert client.post("/api/decisions", json=body).json()["old"]["partners"] == []
    undo = {"uuid": str(uuid.uuid4()), "action": "undo", "new": {"undoes": again["uuid"]}}
    assert client.post("/api/decisions", json=undo).status_code == 201
    detail = client.get(f"/api/synapses/{FIRST}").json()
    assert detail["standing"]["verdict"]["uuid"] == first["uuid"]
    assert [one["undone"] for one in detail["history"]] == [False, True, False, False]
    newest = client.get("/api/decisions", params={"limit": 3}).json()["decisions"]
    assert [one["id"] for one in newest] == [4, 3, 2]
    older = client.get("/api/decisions", params={"limit": 3, "before": 2}).json()["decisions"]
    assert [one["id"] for one in older] == [1]
    assert client.get("/api/decisions", params={"reviewer": "Bob"}).json()["decisions"] == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (verdict(5), 409, "synapse 5 is not in the table"),
        (verdict(FIRST, "maybe"), 422, "verdict"),
        ({"action": "verdict"}, 422, "uuid"),
        (
            {"uuid": str(uuid.uuid4()), "action": "add_synapse",
             "new": {"position_nm": [1e6, 0, 0]}},
            409, "outside of the volume",
        ),
        (
            {"uuid": str(uuid.uuid4()), "action": "merge", "new": {"syn_ids": ["1", "1"]}},
            409, "twice",
        ),
        (
            {"uuid": str(uuid.uuid4()), "action": "undo", "new": {"undoes": str(uuid.uuid4())}},
            409, "",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(served, body, status, said) -> None:
    answer = served.client("Ann").post("/api/decisions", json=body)
    assert answer.status_code == status
    detail = answer.json()["detail"]
    assert said in detail
    assert "\n" not in detail
    assert len(served.log) == 0


def test_progress_counts_what_stands(served) -> None:
    ann, bob = served.client("Ann"), served.client("Bob")
    for i, said in enumerate(("true", "true", "false", "unsure")):
        ann.post("/api/decisions", json=verdict(FIRST + i, said))
    bob.post("/api/decisions", json=verdict(FIRST, "false"))
    told = ann.get("/api/progress").json()
    assert told["candidates"] == {
        "decided": 4, "true": 1, "false": 2, "unsure": 1, "left": 2, "added": 0, "boxes": 0,
    }  # fmt: skip
    assert told["partners"]["total"] == 4
    assert [(r["name"], r["candidates"]) for r in told["reviewers"]] == [("Ann", 4), ("Bob", 1)]
    [one] = told["disagreements"]
    assert (one["syn_id"], one["first"]["reviewer"], one["last"]["reviewer"]) == (
        str(FIRST), "Ann", "Bob",
    )  # fmt: skip
    assert sum(n for _, n in told["minutes"]) == 5
    exported = ann.get("/api/export", params={"format": "csv"})
    assert exported.text.count("\n") == 6
    assert "attachment" in exported.headers["content-disposition"]


# --- pictures ------------------------------------------------------------------------------------


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def test_a_tile_shows_the_object_in_its_outline(served, reviewed) -> None:
    client = served.client()
    x, y, z = client.get(f"/api/synapses/{FIRST + 4}").json()["position_nm"]
    # 64 pixels of 4 nm: one for each voxel.
    raster, sections = Raster((x + 2, y + 2, z), 64, 256), Sections(reviewed.run)
    plain = sections.outlined(raster, FIRST + 4, outline=False)
    outlined = sections.outlined(raster, FIRST + 4)
    drawn = (outlined == rgb(SYNAPSE)).all(axis=2)
    changed = (outlined != plain).any(axis=2)
    i, j = (np.floor(raster.centres_nm(a) / 4).astype(int) - (10, -20)[a] for a in (0, 1))
    section = np.pad(reviewed.objects[:, :, 2 + 4 + 1] == FIRST + 4, 99)
    inside = section[np.ix_(i + 99, j + 99)].T
    assert np.array_equal(drawn & ~inside, binary_dilation(inside, iterations=2) & ~inside)
    assert not (changed & inside).any(), "it hides nothing of the object"
    query = {"size": 64, "span_nm": 256}
    assert pixels(client.get(f"/api/tiles/{FIRST + 4}/0", params=query)).shape == (64, 64, 3)
    elsewhere = client.get(f"/api/tiles/{FIRST}/9000", params=query)
    assert pixels(elsewhere).max() < 40, "no section there: dark"


def test_tiles_are_asked_for_anew_but_not_sent_again(served) -> None:
    client = served.client()
    first = client.get(f"/api/tiles/{FIRST}/0")
    again = client.get(f"/api/tiles/{FIRST}/0", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@given(st.integers(-50, 600), st.integers(-150, 400), st.integers(16, 90), st.floats(100, 900))
@settings(max_examples=20, deadline=None)
def test_a_picture_without_scaling_is_the_section(reviewed, x, y, size, span) -> None:
    raster = Raster((float(x), float(y), 425.0), size, span)
    ids, index = Sections(reviewed.run).labels("synapses", raster)
    assert index.shape == (size, size)
    for row, column in ((0, 0), (size // 2, size // 3), (size - 1, size - 1)):
        u, v = (int(np.floor(raster.centres_nm(a)[k] / 4)) for a, k in ((0, column), (1, row)))
        u, v = u - 10, v + 20
        there = 0 <= u < 120 and 0 <= v < 100
        expected = int(reviewed.objects[u, v, 3]) if there else 0
        found = 0 if index[row, column] == 0 else int(ids[index[row, column] - 1])
        assert found == expected


def test_labels_of_the_interface_are_those(served, reviewed) -> None:
    x, y, z = 250.0, 100.0, 425.0
    query = {"x": x, "y": y, "z": z, "size": 50, "span_nm": 200}
    told = served.client().get("/api/labels", params=query).json()
    runs = np.reshape(told["synapse_runs"], (-1, 2))
    flat = np.repeat(runs[:, 0], runs[:, 1])
    ids = np.array([0, *(int(i) for i in told["synapses"])], np.uint64)
    # Pixels of one voxel, from 150, 0 nm on.
    section = reviewed.objects[:, :, 3]
    start = (int(150 / 4) - 10, 0 + 20)
    assert told["cells"] == []
    found = ids[flat].reshape(50, 50)
    expected = np.zeros((50, 50), np.uint64)
    for row in range(50):
        for column in range(50):
            u = int(np.floor((150 + (column + 0.5) * 4) / 4)) - 10
            v = start[1] + row
            if 0 <= u < 120 and 0 <= v < 100:
                expected[row, column] = section[u, v]
    assert np.array_equal(found, expected)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_blocks_are_the_layer_and_stay_few(reviewed, data) -> None:
    layer = reviewed.run.layer("image")
    blocks = HeldBlocks(layer, most_bytes=2 * 64 * 64 * 12)
    for _ in range(4):
        x, y = data.draw(st.integers(-20, 150)), data.draw(st.integers(-50, 90))
        w, h = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
        z = data.draw(st.integers(0, 20))
        section = blocks.section(np.arange(x, x + w), np.arange(y, y + h), z)
        expected = np.zeros((w, h), np.uint8)
        for i in range(w):
            for j in range(h):
                u, v, k = x + i - 10, y + j + 20, z - 5
                if 0 <= u < 120 and 0 <= v < 100 and 0 <= k < 12:
                    expected[i, j] = reviewed.image[u, v, k]
        assert np.array_equal(section, expected)
        assert blocks.bytes <= 2 * 64 * 64 * 12


def test_a_slow_disk_keeps_no_decision_waiting(served, monkeypatch) -> None:
    begun, free = threading.Semaphore(0), threading.Event()

    def slow(*_, **__) -> np.ndarray:
        begun.release()
        free.wait(60)
        return np.zeros((64, 64), np.uint8)

    monkeypatch.setattr(Sections, "em", slow)
    # One event loop for all, as the server has it; more pictures than it has threads.
    with served.client("Ann") as client, ThreadPoolExecutor(60) as pool:
        try:
            place = {"x": 250, "y": 100, "z": 425}
            tiles = [pool.submit(client.get, "/api/tiles/at", params=place) for _ in range(50)]
            assert begun.acquire(timeout=60)
            decided = pool.submit(client.post, "/api/decisions", json=verdict(FIRST))
            assert decided.result(60).status_code == 201
            assert not any(tile.done() for tile in tiles)
        finally:
            free.set()
        assert all(tile.result(60).status_code == 200 for tile in tiles)
