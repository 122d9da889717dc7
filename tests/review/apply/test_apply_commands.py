"""`cnapse apply` and `cnapse repaint`, as a user says them."""

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cnapse.config import load_config
from cnapse.errors import ConfigError, ReviewError
from cnapse.review.log import DecisionLog, log_path
from cnapse.runs import open_run
from cnapse.tables import read_table
from cnapse_cli.main import app
from cnapse_cli.merge import config_from_objects


@pytest.fixture
def said(finished, tmp_path):
    """Runs a command on a configuration file of the finished run, with a log of its own."""
    config = tmp_path / "cnapse.toml"
    run = open_run(finished.config)
    layer = run.layer_path("synapses")
    config.write_text(config_from_objects(run, layer, finished.config.output))
    log = tmp_path / "review" / "log.sqlite"

    def say(*words: str) -> str:
        words = (words[0], *words[1:2], str(config), *words[2:]) if words[0] == "repaint" else (
            words[0], str(config), *words[1:]
        )  # fmt: skip
        options = [] if "export" in words else ["--log", str(log)]
        done = CliRunner().invoke(app, [*words, *options])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    say.log = log
    return say


def test_apply_tells_what_it_did(finished, tmp_path, said) -> None:
    out = tmp_path / "corrected"
    with pytest.raises((ReviewError, FileNotFoundError), match="no decisions at"):
        said("apply", "-o", str(out))
    a, b = finished.ids[:2]
    with DecisionLog(log_path(finished.config.output, said.log)) as log:
        log.append(finished.decide("verdict", a, {"verdict": "false"}))
        log.append(finished.decide("merge", b, {"syn_ids": [str(b), str(a)]}))
        log.append(finished.decide("verdict", b, {"verdict": "true"}, reviewer="Bo"))
    dry = said("apply", "--dry-run")
    assert f"  verdict {a}: removed: no synapse\n" in dry
    assert "nothing was written" in dry
    with pytest.raises(ConfigError, match="-o is missing: give a folder to write to, or --dry-run"):
        said("apply")
    text = said("apply", "-o", str(out))
    count = len(finished.ids) - 1
    assert "3 decisions in the log; standing and applied: 1 merge, 2 verdict" in text
    assert f"merge {b} (contradiction): synapse {a} was removed before, by Ada" in text
    assert f"{count} synapses: {count - 1} predicted, 1 confirmed" in text
    blocks = np.prod([-(-n // c) for n, c in zip(finished.box.shape, (32, 32, 4), strict=True)])
    assert f" of {blocks} blocks, 0 of {count} synapses computed again" in text
    assert f"0 of {blocks} blocks" in said("apply", "-o", str(out))
    with DecisionLog(said.log) as log:
        log.undo("Ada", uuid=next(iter(log.decisions())).uuid)
    assert f"{count} synapses: {count - 1} predicted" in said("apply", "-o", str(out))
    # The folder is a run to be looked at, wherever it is moved.
    moved = out.rename(tmp_path / "moved")
    run = open_run(moved / "cnapse.toml")
    assert run.config.output == f"file://{moved}"
    assert set(np.unique(run.layer("synapses").read(run.frame))) == {0, *run.synapses["syn_id"]}
    assert run.connections.partners_of(b)["provenance"].tolist()
    assert load_config(moved / "cnapse.toml").label == finished.config.label


def test_a_box_is_painted(finished, tmp_path, said) -> None:
    a = finished.ids[3]
    voxels = finished.voxels(a)
    low, high = voxels.min(0), voxels.max(0) + 1
    box = [str(v) for v in (*low, *high)]
    path = tmp_path / "box.tif"
    text = said("repaint", "export", "--box", *box, "-o", str(path))
    assert "Paint, save under the same name" in text
    assert "nothing was noted" in said("repaint", "import", str(path))
    labels = tifffile.imread(path)
    here = finished.labels[tuple(slice(p - s, q - s) for p, q, s in
                                 zip(low, high, finished.box.start, strict=True))]  # fmt: skip
    number = labels.T[here == a][0]
    labels[labels == number] = 77
    tifffile.imwrite(path, labels, photometric="minisblack")
    text = said("repaint", "import", str(path), "--reviewer", "Bo")
    assert text.startswith(f"{len(voxels)} voxels were painted anew in ")
    assert "is in the log already" in said("repaint", "import", str(path))
    out = tmp_path / "corrected"
    said("apply", "-o", str(out))
    table = read_table(out / "synapses.csv").set_index("syn_id")
    # The old object has no voxel left; the new one, of the same voxels, cannot have its id.
    assert a not in table.index
    (new,) = set(table.index) - set(finished.ids)
    assert (table.loc[new, "voxels"], table.loc[new, "reviewer"]) == (len(voxels), "Bo")
