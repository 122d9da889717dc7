"""`cnapse queue` and `cnapse worker`: what they say, and how they fail."""

import pytest

from cnapse_tasks.queues import open_queue


def test_a_queue_is_made_counted_and_emptied(cnapse, tmp_path) -> None:
    url = f"fq://{tmp_path}/q"
    code, _, err = cnapse("queue", url)
    assert code == 1
    assert f"there is no queue in {tmp_path}/q: make it with --create" in err
    code, out, _ = cnapse("queue", url, "--create")
    assert (code, out) == (0, f"{url} is there\n0 wait, 0 are leased\n")
    queue = open_queue(url)
    queue.api.insert([{"payload": "x"} for _ in range(3)])
    queue.api.lease(60, 1)
    assert cnapse("queue", url)[1] == "2 wait, 1 are leased\n"
    assert cnapse("queue", url, "--purge", "--yes")[1] == f"{url} is empty\n"
    assert queue.enqueued == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("worker", "nowhere"), "'nowhere' is no queue: give fq://FOLDER or sqs://NAME"),
        (("worker", "fq:///no/such/folder"), "there is no folder /no/such"),
        (("worker", "fq:///dev/null/q"), "a part of this path is a file"),
        (("queue", "sqs://a/b"), "names have letters, digits, - and _"),
    ],
)
def test_wrong_queues_are_one_line(cnapse, arguments, told) -> None:
    code, _, err = cnapse(*arguments)
    assert code == 1
    assert told in err
    assert "\n" not in err.strip()


def test_unknown_stages_are_refused(cnapse, tmp_path) -> None:
    code, _, err = cnapse("worker", f"fq://{tmp_path}/q", "--stages", "detect,lable")
    assert code == 1
    assert "--stages: 'lable' is no stage" in err


def test_an_idle_worker_ends(cnapse, tmp_path) -> None:
    code, out, _ = cnapse("worker", f"fq://{tmp_path}/q", "--idle", "0")
    assert code == 0
    assert out.endswith("0 tasks done, 0 failed\n")
