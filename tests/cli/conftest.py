"""The command, called in the process of the tests."""

import sys

import pytest

from cnapse_cli import main as cli


@pytest.fixture
def cnapse(monkeypatch, capsys):
    """Call the command in this process; its exit code, output and error line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cnapse", *map(str, arguments)])
        monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        if isinstance(code, str):
            return 1, out, code
        return int(code or 0), out, err

    return call
