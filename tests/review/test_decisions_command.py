"""`cnapse decisions export|import`, as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cnapse.review.log import DecisionLog
from cnapse_cli.main import app


def run(*arguments: object):
    return CliRunner().invoke(app, ["decisions", *map(str, arguments)])


def test_from_a_table_to_a_log_and_out_and_in(reviewed, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(f"syn_id,verdict\n{2**63},true\n{2**63 + 1},false\n")
    log, other = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    done = run("import", reviewed.config, table, "--log", log, "--reviewer", "d'Arc")
    assert done.output == "2 decisions added, 0 known already; 2 in the log\n"
    for name in ("all.json", "all.csv"):
        done = run("export", reviewed.config, tmp_path / name, "--log", log)
        assert done.output.startswith("2 decisions in the log; written to "), done.output
        done = run("import", reviewed.config, tmp_path / name, "--log", other)
        assert done.exit_code == 0, done.output
    with DecisionLog(other) as opened:
        assert [d.reviewer for d in opened.decisions()] == ["d'Arc", "d'Arc"]
    again = run("export", reviewed.config, tmp_path / "all.csv", "--log", log)
    assert str(again.exception).endswith("is there already: give another name, or --overwrite")
    assert run("export", reviewed.config, tmp_path / "all.csv", "--log", log, "--overwrite").output


def test_points_for_the_viewer(reviewed, tmp_path: Path) -> None:
    log = tmp_path / "new.sqlite"
    points, edited = tmp_path / "points.json", tmp_path / "edited.json"
    arguments = ("--format", "neuroglancer", "--limit", 4, "--log", log)
    done = run("export", reviewed.config, points, *arguments)
    assert done.output.startswith("4 candidates; written to "), done.output
    state = json.loads(points.read_text())
    listed = state["layers"][0]["annotations"]
    # The most doubtful first, in voxels of the run, at the centre of a voxel.
    assert [p["id"] for p in listed] == [f"syn-{2**63 + i}" for i in (5, 4, 3, 2)]
    assert listed[3]["point"] == [99.5, 0.5, 10.5]
    del listed[1]
    edited.write_text(json.dumps(state))
    done = run("import", reviewed.config, edited, "--before", points, "--log", log)
    assert done.output == "1 decisions added, 0 known already; 1 in the log\n"
    with DecisionLog(log) as opened:
        assert {i: d.new.verdict for i, d in opened.standing().verdicts.items()} == {
            2**63 + 4: "false"
        }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "{config}", "{tmp}/x.json"), "no decisions at "),
        (
            ("export", "{config}", "{tmp}/x", "--format", "neuroglancer", "--verdict", "good"),
            "--verdict good: it is one of open, decided, true, false, unsure",
        ),
        (("import", "{config}", "{tmp}/none.csv"), "{tmp}/none.csv: there is no such place"),
        (
            ("import", "{config}", "{config}"),
            "cnapse.toml has no column syn_id, verdict: expected a table of `cnapse ",
        ),
    ],
)
def test_what_is_refused(reviewed, tmp_path: Path, arguments: tuple, message: str) -> None:
    names = {"config": reviewed.config, "tmp": tmp_path}
    done = run(*(word.format(**names) for word in arguments), "--log", tmp_path / "log.sqlite")
    assert done.exit_code == 1
    assert str(done.exception).startswith(message.format(**names))
    assert "\n" not in str(done.exception)
