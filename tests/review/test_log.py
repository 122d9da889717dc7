"""The log: what was acknowledged stays, whoever writes and however it ends."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ConfigError, LayerNotFoundError, ReviewError, StorageError
from cnapse.review.decisions import (
    Decision,
    DeleteDecision,
    Partner,
    PartnersDecision,
    PartnerSet,
    UndoDecision,
    Undoing,
    Verdict,
    VerdictDecision,
)
from cnapse.review.log import DecisionLog, log_path
from cnapse.review.standing import standing

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / name) for name in ("", "tasks", "scripts"))


def verdict(syn_id: int, reviewer: str = "ann", answer: str = "true") -> VerdictDecision:
    return VerdictDecision(reviewer=reviewer, syn_id=syn_id, new=Verdict(verdict=answer))


def python(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PATHS},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_comes_back_is_what_was_written(tmp_path: Path) -> None:
    written = [
        verdict(2**64 - 1, "d'Arc <b>\"x\"</b>"),
        PartnersDecision(
            reviewer="bob", syn_id=7, position_nm=(0.1, 1 / 3, -2e11), seconds=0.1 + 0.2,
            old={"partners": [{"post_id": "18446744073709551615"}]},
            new=PartnerSet(pre_id=2**63, partners=(Partner(post_id=1, share=0.3),), note="\0\n🧠"),
        ),
        DeleteDecision(reviewer="bob", syn_id=7, origin="csv:it's.csv"),
    ]  # fmt: skip
    with DecisionLog(tmp_path / "a" / "log.sqlite") as log:
        stored = [log.append(decision) for decision in written]
        assert [decision.id for decision in stored] == [1, 2, 3]
        assert log.history(7) == stored[1:]
    with DecisionLog(tmp_path / "a" / "log.sqlite", create=False) as log:
        assert list(log.decisions()) == stored
        assert [d.model_copy(update={"id": 0}) for d in stored] == written
        assert list(log.decisions(since=1, limit=1)) == stored[1:2]
        assert log.append(written[0]) == stored[0]
        assert len(log) == 3


def test_nothing_is_written_twice_and_nothing_half(tmp_path: Path) -> None:
    first = verdict(1)
    nothing = UndoDecision(
        reviewer="ann", new=Undoing(undoes="00000000-0000-0000-0000-000000000009")
    )
    with DecisionLog(tmp_path / "log.sqlite") as log:
        assert log.append_many([first, first, verdict(2)])[1].id == 1
        with pytest.raises(ReviewError, match=r"^nothing to undo: .* has no decision 00000000-"):
            log.append_many([verdict(3), nothing])
        assert [d.syn_id for d in log.decisions()] == [1, 2]


def test_the_table_of_decisions_only_grows(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.sqlite") as log:
        log.append(verdict(1))
    connection = sqlite3.connect(tmp_path / "log.sqlite")
    for statement in ("DELETE FROM decisions", "UPDATE decisions SET reviewer = 'eve'"):
        with pytest.raises(sqlite3.IntegrityError, match="undo them"):
            connection.execute(statement)
    connection.close()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 3)), max_size=25))
@settings(max_examples=20, deadline=None)
def test_undo_and_what_stands_are_those_of_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    # Two hold the same file, in turns.
    with DecisionLog(path) as one, DecisionLog(path) as two:
        made: list[Decision] = []
        for i, (kind, who, syn_id) in enumerate(steps):
            log, reviewer = (one, two)[i % 2], ("ann", "bob")[who]
            if kind == 0:
                undone = standing(made).undone
                own = [
                    d
                    for d in made
                    if d.reviewer == reviewer and d.action != "undo" and d.uuid not in undone
                ]
                undo = log.undo(reviewer)
                assert (undo and undo.new.undoes) == (own[-1].uuid if own else None)
                made += [undo] if undo else []
            elif kind == 1 and made:
                target = made[syn_id % len(made)].uuid
                made.append(log.append(UndoDecision(reviewer=reviewer, new=Undoing(undoes=target))))
            else:
                made.append(log.append(verdict(syn_id, reviewer, ("true", "false")[kind % 2])))
        assert one.standing() == two.standing() == standing(made)
        assert list(one.decisions()) == made


def test_an_undo_is_about_what_it_undoes(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.sqlite") as log:
        log.append(DeleteDecision(reviewer="ann", syn_id=4))
        log.append(verdict(5, "ann"))
        undo = log.undo("ann", "objects", uuid="00000000-0000-0000-0000-00000000000A")
        assert undo is not None
        assert (undo.loop, undo.syn_id, undo.old) == ("objects", 4, {})
        # The same request again.
        assert log.undo("ann", "objects", uuid="00000000-0000-0000-0000-00000000000a") == undo
        assert log.undo("ann", "objects") is None
        assert log.undo("bob") is None


WRITER = """
import sys
from cnapse.review.decisions import Verdict, VerdictDecision
from cnapse.review.log import DecisionLog
log = DecisionLog(sys.argv[1])
for i in range(1, 10**6):
    done = log.append(VerdictDecision(reviewer="ann", syn_id=i, new=Verdict(verdict="true")))
    print(done.uuid, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    writer = python(WRITER, path)
    acknowledged = [writer.stdout.readline().strip() for _ in range(25)]
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    acknowledged += [line for line in rest.splitlines() if len(line) == 36]
    with DecisionLog(path, create=False) as log:
        kept = list(log.decisions())
        assert {*acknowledged} <= {d.uuid for d in kept}
        assert [d.syn_id for d in kept] == list(range(1, len(kept) + 1))
        assert log.append(verdict(10**9)).id == len(kept) + 1


CLAIMER = """
import sys
from cnapse.review.decisions import Verdict, VerdictDecision
from cnapse.review.log import DecisionLog
log = DecisionLog(sys.argv[1])
while given := log.claim("candidates", range(1, 201), sys.argv[2], 7, minutes=60):
    print(*given, flush=True)
    log.append_many(
        VerdictDecision(reviewer=sys.argv[2], syn_id=i, new=Verdict(verdict="true")) for i in given
    )
"""


def test_two_processes_never_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    both = [python(CLAIMER, path, name) for name in ("ann", "bob")]
    given = [list(map(int, process.communicate(timeout=120)[0].split())) for process in both]
    assert all(process.returncode == 0 for process in both)
    assert sorted(given[0] + given[1]) == list(range(1, 201))
    with DecisionLog(path) as log:
        assert len(log) == 200
        assert log.leases("candidates") == {}


def test_threads_share_a_log(tmp_path: Path) -> None:
    given: list[int] = []
    with DecisionLog(tmp_path / "log.sqlite") as log:

        def review(name: str) -> None:
            while found := log.claim("candidates", range(1, 41), name, 3):
                given.extend(found)
                log.append_many(verdict(i, name) for i in found)

        threads = [threading.Thread(target=review, args=(f"r{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(given) == list(range(1, 41))
        assert len(log.standing().verdicts) == 40


def test_leases_end_and_are_renewed(tmp_path: Path) -> None:
    now = [1000.0]
    with DecisionLog(tmp_path / "log.sqlite", clock=lambda: now[0]) as log:
        assert log.claim("candidates", range(1, 6), "ann", 2) == [1, 2]
        assert log.claim("candidates", range(1, 6), "bob", 2) == [3, 4]
        # What is one's own comes again, for as long as at first.
        now[0] += 9 * 60
        assert log.claim("candidates", range(1, 6), "ann", 2) == [1, 2]
        now[0] += 61
        assert log.leases("candidates") == {1: "ann", 2: "ann"}
        assert log.claim("candidates", range(1, 6), "cid", 9) == [3, 4, 5]
        # Each loop has its own.
        assert log.claim("partners", range(1, 6), "bob", 1) == [1]
        log.release("cid", items=[4])
        log.release("ann", "candidates")
        assert log.leases("candidates") == {3: "cid", 5: "cid"}
        log.append(verdict(3, "cid"))
        assert log.leases("candidates") == {5: "cid"}


def test_second_opinions(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.sqlite") as log:
        log.append_many([verdict(1, "ann"), verdict(2, "bob"), verdict(3, "ann")])
        log.undo("ann")
        assert log.claim("candidates", range(1, 5), "bob", 9, again=True) == [1]
        assert log.claim("candidates", range(1, 5), "cid", 9, again=True) == [2]
        assert log.claim("candidates", range(1, 5), "cid", 9) == [3, 4]


def test_samples_stay(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.sqlite") as log:
        kept = log.put_sample("a", 3, {"strata": [{"population": 2}]}, [(2**64 - 1, 0), (5, 0)])
        assert log.put_sample("a", 4, {}, []) == kept == log.sample("a")
        assert log.samples() == ["a"]
        assert log.sample("b") is None


def test_where_it_lies(tmp_path: Path) -> None:
    assert log_path(f"file://{tmp_path}/run") == tmp_path / "run" / "review" / "log.sqlite"
    assert log_path("gs://bucket/run", tmp_path / "x.sqlite") == tmp_path / "x.sqlite"
    with pytest.raises(ConfigError, match=r"^the log of decisions is a file on this machine, not "):
        log_path("gs://bucket/run")


def test_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LayerNotFoundError, match="make some with `cnapse review`, or give --log"):
        DecisionLog(tmp_path / "log.sqlite", create=False)
    (tmp_path / "text").write_text("syn_id,verdict\n" * 100)
    with pytest.raises(ReviewError, match=r"is no log of decisions .*: give another --log FILE$"):
        DecisionLog(tmp_path / "text")
    with pytest.raises(StorageError):
        DecisionLog(tmp_path / "text" / "log.sqlite")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(ReviewError, match="is a database of something else: give another --log"):
        DecisionLog(tmp_path / "other")
    DecisionLog(tmp_path / "newer").close()
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ReviewError, match=r"is of a newer cnapse \(version 99, known is 1\)"):
        DecisionLog(tmp_path / "newer")
