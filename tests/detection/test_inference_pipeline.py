"""Reading, computing and writing at the same time: the same result, in bounded memory."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.pipeline import overlapped


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 12), ahead=st.integers(1, 4), slow=st.sampled_from("rcw"))
def test_it_equals_the_plain_loop_and_holds_few_parts(count, ahead, slow):
    lock = threading.Lock()
    held, most, written, threads = 0, 0, [], set()

    def wait(step):
        threads.add((step, threading.get_ident()))
        time.sleep(0.002 if step == slow else 0)

    def read(part):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        wait("r")
        return 10 * part

    def compute(part, found):
        wait("c")
        return found + part

    def write(part, made):
        nonlocal held
        wait("w")
        written.append((part, made))
        with lock:
            held -= 1

    overlapped(range(count), read, compute, write, ahead=ahead)
    assert written == [(part, 11 * part) for part in range(count)]
    assert most <= 2 * ahead + 1
    if count:
        assert len(threads) == len({thread for _, thread in threads}) == 3


def test_all_three_are_at_work_at_the_same_time():
    """Part 2 is read while part 1 is computed and part 0 is written; alone they would wait."""
    together = threading.Barrier(3, timeout=20)

    def at_once(step, part):
        if part == {"read": 2, "compute": 1, "write": 0}[step]:
            together.wait()

    overlapped(
        range(3),
        lambda part: at_once("read", part),
        lambda part, _: at_once("compute", part),
        lambda part, _: at_once("write", part),
    )


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_an_error_ends_it_and_is_told(step):
    done = []
    before = set(threading.enumerate())

    def failing(name, part):
        done.append((name, part))
        if name == step and part == 3:
            raise ValueError(f"{name} of {part}")

    with pytest.raises(ValueError, match=f"{step} of 3"):
        overlapped(
            range(100),
            lambda part: failing("read", part),
            lambda part, _: failing("compute", part),
            lambda part, _: failing("write", part),
        )
    assert max(part for _, part in done) < 10
    assert set(threading.enumerate()) <= before
