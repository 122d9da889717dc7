"""Killing workers where it hurts."""

import textwrap
from collections.abc import Callable

import pytest

KILLER = """
    import importlib, os, signal
    from pathlib import Path

    import cnapse.store

    flags = os.environ["CNAPSE_TEST_KILL"]

    def deadly(do, flag):
        def execute(run, index):
            if not flag.exists():
                return do(run, index)
            if flag.read_text() == "in_a_write":
                put = Path.write_bytes
                def torn(path, data):
                    put(path, data[: len(data) // 2])
                    die()
                Path.write_bytes = torn
            do(run, index)
            die()
        def die():
            flag.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return execute

    for flag in Path(flags).iterdir():
        module = importlib.import_module(f"cnapse_tasks.{flag.name}")
        module.execute = deadly(module.execute, flag)
"""


@pytest.fixture
def kill_in(tmp_path, monkeypatch) -> Callable[[dict[str, str]], Callable[[], list[str]]]:
    """Kill a worker once in each of some stages; gives the stages in which none was killed.

    ``before_record`` kills it after its data was written, ``in_a_write`` with half a file written.
    """

    def arm(modes: dict[str, str]) -> Callable[[], list[str]]:
        flags = tmp_path / "flags"
        flags.mkdir()
        for stage, mode in modes.items():
            (flags / stage).write_text(mode)
        (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(KILLER))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("CNAPSE_TEST_KILL", str(flags))
        return lambda: sorted(flag.name for flag in flags.iterdir())

    return arm
