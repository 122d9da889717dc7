"""All comparisons stand in one list, take the same options, and end up in one table."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# They compare nothing, or take hours of their own.
APART = {"chaos", "everything", "memory", "planning", "train_vnc"}


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("everything")
    for name in ("everything", "_rows"):
        sys.modules.pop(name, None)


def test_every_comparison_is_in_the_list(everything) -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("[!_]*.py")}
    assert set(everything.BENCHMARKS) == scripts - APART
    assert {peer for peers in everything.BENCHMARKS.values() for peer in peers} == set(
        everything.PEERS
    )


def test_each_takes_the_common_options_and_its_peers(everything) -> None:
    """Read, not run: each imports half of the project."""
    for name, peers in everything.BENCHMARKS.items():
        tree = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parser"
        ]
        assert len(calls) == 1, f"{name}: --json and --quick come from _rows.parser"
        given = ast.literal_eval(calls[0].args[1])
        assert set(peers) <= set(given), name


SCRIPT = """
from _rows import Row, absent, parser, report
given = parser("small", {"seed": "a peer"}).parse_args()
if given.seed is None:
    absent("Cnapse", "give it with --seed")
report([Row("work | more", 2.0, "MB/s", "raw", 4.0, str(given.quick))], given.json)
"""


@pytest.fixture
def small(everything, monkeypatch, tmp_path):
    """A list of two: one that has no peer here, one that fails."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "good.py").write_text(SCRIPT)
    (folder / "_rows.py").write_text((BENCHMARKS / "_rows.py").read_text())
    (folder / "bad.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(everything, "HERE", folder)
    monkeypatch.setattr(everything, "BENCHMARKS", {"good": ("seed",), "bad": ()})

    def run(*words: str) -> tuple[dict, str]:
        output = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["everything.py", "--output", str(output), *words])
        everything.main()
        table = (output / "benchmarks.md").read_text(encoding="utf-8")
        return json.loads((output / "benchmarks.json").read_text(encoding="utf-8")), table

    return run


def test_the_table_tells_rows_absent_peers_and_times(small, tmp_path) -> None:
    whole, table = small("--quick", "--only", "good")
    assert whole["absent"] == ["no row for Cnapse: give it with --seed"]
    assert whole["rows"][0]["benchmark"] == "good"
    assert whole["rows"][0]["ratio"] == 0.5
    assert r"| good | work \| more | 2 | MB/s | raw | 4 | 0.5 | True |" in table
    assert "- no row for Cnapse: give it with --seed\n" in table
    assert "\ngood: " in table

    whole, table = small("--only", "good", "--seed", str(tmp_path))
    assert not whole["absent"]
    assert "| False |" in table


def test_one_that_fails_is_named_and_the_others_are_kept(small, tmp_path) -> None:
    with pytest.raises(SystemExit, match="failed: bad"):
        small()
    whole = json.loads((tmp_path / "out/benchmarks.json").read_text(encoding="utf-8"))
    assert whole["failed"] == ["bad"]
    assert [row["benchmark"] for row in whole["rows"]] == ["good"]
