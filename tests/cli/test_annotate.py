"""`cnapse annotate`, and the page about it."""

import json
import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.interchange.formats import ROLES
from cnapse.interchange.source import FORMAT_NAMES
from cnapse.viewing.server import LayerServer
from cnapse_cli import main as cli

PAGE = (Path(__file__).parents[2] / "docs" / "annotations.md").read_text()


@pytest.fixture
def annotate(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call it: exit code, output, and what it says besides."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cnapse", "annotate", *map(str, arguments)])
        monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return (1, out, code) if isinstance(code, str) else (int(code or 0), out, err)

    return call


@pytest.fixture
def table(tmp_path, monkeypatch) -> pd.DataFrame:
    """CAVE's columns, in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"id": np.arange(20) + 2**60, "size": 7})
    for name in ("pre", "post"):
        frame[f"{name}_pt_root_id"] = np.arange(20) % 3 + 864691135000000001
        for axis in "xyz":
            frame[f"{name}_pt_position_{axis}"] = rng.integers(0, 1000, 20)
    frame.to_parquet("synapses.parquet")
    return frame


def test_a_table(annotate, table) -> None:
    options = ["synapses.parquet", "layer", "--resolution", 4, 4, 40]
    code, out, _ = annotate(*options)
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == [
        "synapses.parquet: read as cave, unit 4 4 40 nm",
        "properties: size",
        "relationships: presynaptic cell, postsynaptic cell",
    ]
    files = [p for p in Path("layer").rglob("*") if p.is_file() and p.name != "info"]
    size = f"{sum(p.stat().st_size for p in files) / 1000:.1f} kB"
    assert lines[3] == f"20 lines written to layer: {len(files)} files, {size}, 1 level"
    assert lines[4].startswith("In Neuroglancer: ")
    code, _, said = annotate(*options)
    assert code == 1
    assert re.search(r"layer holds a layer already: .* --overwrite", said)
    assert "\n" not in said.strip()
    code, out, _ = annotate(*options, "--overwrite", "--points", "--sharded")
    assert code == 0
    assert "20 points written to layer: 4 files" in out
    info = json.loads(Path("layer/info").read_text())
    assert info["annotation_type"] == "POINT"
    assert "sharding" in info["by_id"]


def test_options(annotate, table) -> None:
    table.loc[4, "pre_pt_position_x"] = np.nan
    table.loc[[6, 7], "post_pt_root_id"] = 0
    renamed = table.rename(columns={"pre_pt_root_id": "mine"})
    renamed.to_csv("t.csv", index=False)
    command = ["t.csv", "layer", "--format", "cave", "--resolution", 1, 1, 1]
    _, _, said = annotate(*command)
    assert "lacks pre_cell (pre_pt_root_id): it has id, size, mine" in said
    _, _, said = annotate(*command, "--columns", "pre_cell=mine")
    assert "give --skip-missing" in said
    assert not Path("layer").exists()
    code, out, _ = annotate(
        *command, "--columns", "pre_cell=mine", "--columns", "id=", "--skip-missing"
    )
    assert code == 0
    assert "\n1 row without a position left out\n2 rows without a cell (0 or empty) at" in out
    assert "tied to none there\n19 lines written" in out
    assert {p.name for p in Path("layer/by_id").iterdir()} == {str(i) for i in range(1, 21)} - {"5"}


def test_the_page(table, monkeypatch, capsys) -> None:
    """Its code runs, from the table to the address; its lists are those of the program."""
    opening, making = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(making, {})
    assert capsys.readouterr().out.startswith("cave AnnotationSchema(kind='LINE'")
    seen = []

    def while_it_serves(_: str) -> None:
        with urllib.request.urlopen(f"{servers[0].address('synapses')}/info") as answer:
            seen.append(json.load(answer))
        servers[0].close()

    servers = []
    started = LayerServer.__init__

    def remembered(self, *args, **options) -> None:
        started(self, *args, **options)
        servers.append(self)

    monkeypatch.setattr(LayerServer, "__init__", remembered)
    exec(opening, {"input": while_it_serves})
    assert seen == [json.loads(Path("layer/info").read_text())]
    assert capsys.readouterr().out.strip() == f"{servers[0].url}/"
    assert re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE) == [
        *FORMAT_NAMES[:-2], "cremi", "other",
    ]  # fmt: skip
    roles = PAGE.split("Roles: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", roles)) == {
        role for role in ROLES if role[-2:] not in {"_x", "_y", "_z"} or role.startswith("pre_")
    }
