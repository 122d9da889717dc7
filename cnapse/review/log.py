"""The log of decisions: it only grows; beside it who has what at the moment, and samples.

A decision that `append` has returned is on the disk. Whoever opens the file later, after whatever
end of this process, has it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cnapse.errors import ReviewError
from cnapse.review.database import Database, log_path
from cnapse.review.decisions import Decision, Loop, UndoDecision, Undoing, parse_decision, timestamp
from cnapse.review.standing import Ledger, Standing

__all__ = ["DecisionLog", "StoredSample", "log_path"]

_COLUMNS = (
    "id, uuid, time, reviewer, loop, action, syn_id, x_nm, y_nm, z_nm, old, new, seconds, origin"
)
_PAGE = 10_000
_LEASE_MINUTES = 10.0


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample as the log keeps it.

    Attributes
    ----------
    name, seed, created
    strata : dict
        What they are, as JSON.
    items : tuple of (syn_id, stratum)
        In their order.
    """

    name: str
    seed: int
    created: str
    strata: Mapping[str, Any]
    items: tuple[tuple[int, int], ...]


class DecisionLog:
    """Decisions in a file, for any number of threads and processes.

    Parameters
    ----------
    path
        See `log_path`.
    create : bool
        Make the file where it is absent.
    clock : callable
        Seconds, for leases.

    Raises
    ------
    LayerNotFoundError, ReviewError, StorageError
        If it is absent and not to be made, is something else, or cannot be written.
    """

    def __init__(
        self, path: str | Path, create: bool = True, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = Database(Path(path), create=create)
        self._clock = clock
        self._ledger = Ledger()
        self._seen = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    # --- decisions ------------------------------------------------------------------------------

    def append(self, decision: Decision) -> Decision:
        """Write a decision; once this returns it is on the disk.

        Returns
        -------
        Decision
            With its place in the log. One whose uuid is there already is not written again: what
            is there is returned.

        Raises
        ------
        ReviewError
            If it undoes what is not there.
        """
        return self.append_many([decision])[0]

    def append_many(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Write decisions in their order: all of them, or, if one cannot be, none."""
        given = list(decisions)
        with self._database.writing() as connection:
            return [self._insert(connection, decision) for decision in given]

    def _insert(self, connection: sqlite3.Connection, decision: Decision) -> Decision:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM decisions WHERE uuid = ?",  # noqa: S608
            (decision.uuid,),
        ).fetchone()
        if row is not None:
            return _decision(row)
        if isinstance(decision, UndoDecision):
            decision = _like_its_target(decision, self._target(connection, decision.new.undoes))
        made = connection.execute(
            "INSERT INTO decisions (uuid, time, reviewer, loop, action, syn_id, x_nm, y_nm, z_nm, "
            "old, new, seconds, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            _values(decision),
        )
        connection.execute(
            "DELETE FROM leases WHERE loop = ? AND item = ?", (decision.loop, str(decision.syn_id))
        )
        return decision.model_copy(update={"id": made.lastrowid})

    def _target(self, connection: sqlite3.Connection, uuid: str) -> Decision:
        # Not from the ledger: it may be one of those that are just being written.
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM decisions WHERE uuid = ?",  # noqa: S608
            (uuid,),
        ).fetchone()
        if row is None:
            raise ReviewError(f"nothing to undo: {self.path} has no decision {uuid}")
        return _decision(row)

    def find(self, uuid: str) -> Decision | None:
        """The decision of a uuid."""
        with self._database.reading() as connection:
            self._read_new(connection)
            return self._ledger.get(uuid)

    def decisions(self, since: int = 0, limit: int | None = None) -> Iterator[Decision]:
        """Decisions in their order, from behind that of id `since` on, at most `limit`."""
        left = limit
        while left is None or left > 0:
            with self._database.reading() as connection:
                rows = _rows_after(connection, since, _PAGE if left is None else min(left, _PAGE))
            for row in rows:
                yield _decision(row)
            if not rows:
                return
            since = rows[-1][0]
            left = None if left is None else left - len(rows)

    def history(self, syn_id: int) -> list[Decision]:
        """All decisions about one object, in their order, undone ones and undos among them."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM decisions WHERE syn_id = ? ORDER BY id",  # noqa: S608
                (str(syn_id),),
            ).fetchall()
        return [_decision(row) for row in rows]

    def standing(self) -> Standing:
        """What stands now, with what other processes have written."""
        with self._database.reading() as connection:
            self._read_new(connection)
            return self._ledger.standing()

    def __len__(self) -> int:
        with self._database.reading() as connection:
            self._read_new(connection)
            return len(self._ledger)

    def undo(
        self, reviewer: str, loop: Loop | None = None, *, uuid: str | None = None
    ) -> UndoDecision | None:
        """Undo the last decision of a reviewer that stands; None if there is none.

        Parameters
        ----------
        reviewer : str
        loop : str, optional
            Only there.
        uuid : str, optional
            Of the undo: where it is in the log already, that one is returned.
        """
        with self._database.writing() as connection:
            self._read_new(connection)
            known = None if uuid is None else self._ledger.get(uuid)
            if known is not None:
                return known if isinstance(known, UndoDecision) else None
            last = self._ledger.last_own(reviewer, loop)
            if last is None:
                return None
            made: dict[str, Any] = {} if uuid is None else {"uuid": uuid}
            undo = UndoDecision(
                reviewer=reviewer, position_nm=last.position_nm, old=last.to_json()["new"],
                new=Undoing(undoes=last.uuid), **made,
            )  # fmt: skip
            written = self._insert(connection, undo)
            return written if isinstance(written, UndoDecision) else None

    def _read_new(self, connection: sqlite3.Connection) -> None:
        """Take in what was written since, by whomever; never what is not committed yet."""
        while rows := _rows_after(connection, self._seen, _PAGE):
            for row in rows:
                self._ledger.add(_decision(row))
            self._seen = rows[-1][0]

    # --- who has what ---------------------------------------------------------------------------

    def claim(
        self,
        loop: Loop,
        items: Iterable[int],
        reviewer: str,
        count: int,
        minutes: float = _LEASE_MINUTES,
        *,
        again: bool = False,
    ) -> list[int]:
        """Give the first items that are neither decided nor another's to a reviewer.

        Parameters
        ----------
        loop : str
            ``partners`` looks at decisions about partners, the others at verdicts.
        items : iterable of int
            Synapse ids, the most wanted first.
        reviewer : str
        count : int
            At most so many.
        minutes : float
            How long they are this reviewer's; to claim them again renews that.
        again : bool
            Give only items that others have decided and this reviewer has not: second opinions.
        """
        now = self._clock()
        given: list[int] = []
        with self._database.writing() as connection:
            self._read_new(connection)
            connection.execute("DELETE FROM leases WHERE expires <= ?", (now,))
            others = {
                int(item)
                for (item,) in connection.execute(
                    "SELECT item FROM leases WHERE loop = ? AND reviewer <> ?", (loop, reviewer)
                )
            }
            for item in map(int, items):
                if len(given) >= count:
                    break
                deciders = self._ledger.deciders(loop, item)
                wanted = deciders and reviewer not in deciders if again else not deciders
                if wanted and item not in others:
                    given.append(item)
            connection.executemany(
                "INSERT OR REPLACE INTO leases (loop, item, reviewer, expires) VALUES (?, ?, ?, ?)",
                [(loop, str(item), reviewer, now + 60 * minutes) for item in given],
            )
        return given

    def release(
        self, reviewer: str, loop: Loop | None = None, items: Iterable[int] | None = None
    ) -> None:
        """Give back what a reviewer has claimed: these items, or all."""
        condition, values = "reviewer = ?", [reviewer]
        if loop is not None:
            condition, values = f"{condition} AND loop = ?", [*values, loop]
        with self._database.writing() as connection:
            if items is None:
                connection.execute(f"DELETE FROM leases WHERE {condition}", values)  # noqa: S608
            else:
                connection.executemany(
                    f"DELETE FROM leases WHERE {condition} AND item = ?",  # noqa: S608
                    [(*values, str(int(item))) for item in items],
                )

    def leases(self, loop: Loop) -> dict[int, str]:
        """Who has what at the moment: reviewers by synapse id."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT item, reviewer FROM leases WHERE loop = ? AND expires > ?",
                (loop, self._clock()),
            ).fetchall()
        return {int(item): reviewer for item, reviewer in rows}

    # --- samples --------------------------------------------------------------------------------

    def put_sample(
        self,
        name: str,
        seed: int,
        strata: Mapping[str, Any],
        items: Iterable[tuple[int, int]],
        created: str | None = None,
    ) -> StoredSample:
        """Keep a sample; where there is one of this name, that one is returned and nothing kept."""
        with self._database.writing() as connection:
            known = _sample(connection, name)
            if known is not None:
                return known
            kept = tuple((int(syn_id), int(stratum)) for syn_id, stratum in items)
            sample = StoredSample(name, seed, created or timestamp(), strata, kept)
            connection.execute(
                "INSERT INTO samples (name, seed, created, strata) VALUES (?, ?, ?, ?)",
                (name, seed, sample.created, json.dumps(strata, allow_nan=False)),
            )
            connection.executemany(
                "INSERT INTO sample_items (sample, position, syn_id, stratum) VALUES (?, ?, ?, ?)",
                [(name, i, str(syn_id), stratum) for i, (syn_id, stratum) in enumerate(kept)],
            )
            return sample

    def sample(self, name: str) -> StoredSample | None:
        """The sample of a name."""
        with self._database.reading() as connection:
            return _sample(connection, name)

    def samples(self) -> list[str]:
        """Names of samples, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name FROM samples ORDER BY created, name").fetchall()
        return [name for (name,) in rows]

    # --- the file -------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _rows_after(connection: sqlite3.Connection, since: int, limit: int) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"SELECT {_COLUMNS} FROM decisions WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (since, limit),
    ).fetchall()


def _values(decision: Decision) -> tuple[Any, ...]:
    """Of the columns but ``id``."""
    found = decision.to_json()
    place = found["position_nm"] or (None, None, None)
    old = None if found["old"] is None else json.dumps(found["old"])
    return (
        found["uuid"], found["time"], found["reviewer"], found["loop"], found["action"],
        found["syn_id"], *place, old, json.dumps(found["new"]), found["seconds"], found["origin"],
    )  # fmt: skip


def _decision(row: tuple[Any, ...]) -> Decision:
    id_, uuid, when, reviewer, loop, action, syn_id, x, y, z, old, new, seconds, origin = row
    return parse_decision(
        {
            "id": id_, "uuid": uuid, "time": when, "reviewer": reviewer, "loop": loop,
            "action": action, "syn_id": syn_id, "position_nm": None if x is None else (x, y, z),
            "old": None if old is None else json.loads(old), "new": json.loads(new),
            "seconds": seconds, "origin": origin,
        }
    )  # fmt: skip


def _like_its_target(undo: UndoDecision, target: Decision) -> UndoDecision:
    return undo.model_copy(update={"loop": target.loop, "syn_id": target.syn_id})


def _sample(connection: sqlite3.Connection, name: str) -> StoredSample | None:
    row = connection.execute(
        "SELECT seed, created, strata FROM samples WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    items = connection.execute(
        "SELECT syn_id, stratum FROM sample_items WHERE sample = ? ORDER BY position", (name,)
    ).fetchall()
    return StoredSample(
        name, row[0], row[1], json.loads(row[2]), tuple((int(i), int(s)) for i, s in items)
    )
