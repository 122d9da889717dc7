"""The SQLite file under a log: its tables, its transactions, and what can go wrong with it.

Write-ahead log and ``synchronous = FULL``: what was committed survives the end of the process, by
whatever means, and the loss of power. Several processes may hold the same file; it must lie on a
disk of this machine, since SQLite's locks do not hold over a network.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cnapse.errors import (
    ConfigError,
    LayerNotFoundError,
    ReviewError,
    StorageError,
    StorageUnavailableError,
    storage_error,
)
from cnapse.store import local_path

__all__ = ["Database", "log_path"]

_VERSION = 1
# "cnap": told by `file`, and by us from any other SQLite file.
_APPLICATION = 0x636E6170
_PATIENCE_S = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
  id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, time TEXT NOT NULL,
  reviewer TEXT NOT NULL, loop TEXT NOT NULL, action TEXT NOT NULL, syn_id TEXT NOT NULL,
  x_nm REAL, y_nm REAL, z_nm REAL, old TEXT, new TEXT NOT NULL, seconds REAL NOT NULL,
  origin TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS decisions_by_synapse ON decisions (syn_id);
CREATE TRIGGER IF NOT EXISTS decisions_keep BEFORE UPDATE ON decisions
  BEGIN SELECT RAISE(ABORT, 'decisions are never changed: undo them'); END;
CREATE TRIGGER IF NOT EXISTS decisions_stay BEFORE DELETE ON decisions
  BEGIN SELECT RAISE(ABORT, 'decisions are never deleted: undo them'); END;
CREATE TABLE IF NOT EXISTS leases (
  loop TEXT NOT NULL, item TEXT NOT NULL, reviewer TEXT NOT NULL, expires REAL NOT NULL,
  PRIMARY KEY (loop, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
  name TEXT PRIMARY KEY, seed INTEGER NOT NULL, created TEXT NOT NULL, strata TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sample_items (
  sample TEXT NOT NULL, position INTEGER NOT NULL, syn_id TEXT NOT NULL, stratum INTEGER NOT NULL,
  PRIMARY KEY (sample, position)) WITHOUT ROWID;
"""


def log_path(output: str, given: str | Path | None = None) -> Path:
    """Where the log of a run lies: ``<output>/review/log.sqlite``, or where it is given.

    Parameters
    ----------
    output : str
        The run's output folder.
    given : path, optional

    Raises
    ------
    ConfigError
        If the place is in a bucket.
    """
    place = local_path(str(given) if given is not None else f"{output}/review/log.sqlite")
    if place is None:
        raise ConfigError(
            f"the log of decisions is a file on this machine, not in {given or output}: "
            "give one with --log FILE"
        )
    return place


class Database:
    """One connection, for all threads of this process.

    Parameters
    ----------
    path
    create
        Make it where it is absent.

    Raises
    ------
    LayerNotFoundError
        If it is absent, and not to be made.
    ReviewError
        If it is no log of decisions, or one of a newer cnapse.
    StorageError
        If it cannot be read and written.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self.lock = threading.RLock()
        if not path.is_file():
            if not create:
                raise LayerNotFoundError(
                    f"no decisions at {path}: make some with `cnapse review`, or give --log FILE"
                )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, path.parent) from error
        with self.errors():
            self.connection = sqlite3.connect(
                path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        with self.errors():
            # Two that make the same file at once: the switch itself does not wait for a lock.
            with contextlib.suppress(sqlite3.OperationalError):
                self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            with self.writing() as connection:
                (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                (made_by,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if tables and made_by != _APPLICATION:
                    raise ReviewError(
                        f"{self.path} is a database of something else: give another --log FILE"
                    )
                if version > _VERSION:
                    raise ReviewError(
                        f"{self.path} is of a newer cnapse (version {version}, known is "
                        f"{_VERSION}): update cnapse"
                    )
                if not tables:
                    for statement in _statements():
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer comes into; all of it is kept, or nothing."""
        with self.lock, self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite has gone back by itself.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone."""
        with self.lock, self.errors():
            yield self.connection

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """What SQLite says, as one line.

        Raises
        ------
        ReviewError
            If the file is closed, damaged, or not SQLite's.
        StorageUnavailableError
            If another process holds it.
        StorageError
            If it cannot be read or written.
        """
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise ReviewError(f"{self.path} is closed: open it again") from error
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StorageUnavailableError(
                    f"{self.path}: another process has been writing for {_PATIENCE_S:.0f} s: end "
                    "it, or try again"
                ) from error
            raise StorageError(f"{self.path}: {error}: check the path and the disk") from error
        except sqlite3.DatabaseError as error:
            raise ReviewError(
                f"{self.path} is no log of decisions ({error}): give another --log FILE"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _statements() -> list[str]:
    """The schema's statements; `executescript` would commit what came before."""
    found, text = [], ""
    for line in _SCHEMA.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return found
