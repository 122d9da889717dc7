"""`cnapse merge`: from a run to joined objects and the run that goes on from them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from cnapse.config import load_config
from cnapse.geometry import Box
from cnapse.store import Store
from cnapse.synapses.measure import measure
from cnapse.tables import read_table
from cnapse.volumes.reader import open_layer
from cnapse.volumes.stored import load_info
from cnapse.volumes.writer import create_layer
from cnapse_cli import main as cli
from cnapse_cli.merge import write_merged

GAP_NM = 105.0


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call `cnapse`: exit code, output, and what it says besides."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cnapse", *map(str, arguments)])
        monkeypatch.delenv("CNAPSE_DEBUG", raising=False)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return (1, out, code) if isinstance(code, str) else (int(code or 0), out, err)

    return call


@dataclass(frozen=True)
class Finished:
    """A finished run, from a map in which one section is missing."""

    file: Path
    box: Box
    cells: np.ndarray

    @property
    def output(self) -> Path:
        return self.file.parent / "out"

    def objects(self) -> np.ndarray:
        return open_layer(self.output / "synapses", mip=0).read(self.box)


@pytest.fixture(scope="module")
def finished(tissue, tmp_path_factory, run_here) -> Finished:
    folder = tmp_path_factory.mktemp("cut")
    probability = tissue.probability.copy(order="F")
    probability[:, :, 9:14:4] = 0
    create_layer(
        folder / "probability",
        kind="image",
        dtype="uint8",
        bounds=tissue.box,
        chunk_size=(32, 32, 4),
    ).write(probability, tissue.box)
    file = folder / "cnapse.toml"
    file.write_text(
        'output = "out"\nresolution = [4, 4, 50]\nblock = [160, 128, 20]\nseed = 5\n[layers]\n'
        f'probability = "probability"\ncells = "{tissue.folder}/cells"\n'
        "[label]\nmin_voxels = 5\n"
        '[link]\nimage = "gs://b/image"\nsynapses = "gs://b/synapses"\n'
    )
    run_here(load_config(file))
    return Finished(file, tissue.box, tissue.cells)


def expected_mapping(finished: Finished, gap_nm: float) -> dict[int, int]:
    """From the distances between all voxels of any two objects of a cell."""
    table = read_table(finished.output / "synapses.csv")
    labels = finished.objects()
    voxels = {i: np.argwhere(labels == i) * (4, 4, 50) for i in table["syn_id"]}
    name = {i: i for i in table["syn_id"].tolist()}
    for _, rows in table.groupby("pre_id"):
        ids = rows["syn_id"].tolist()
        near = [
            (a, b)
            for n, a in enumerate(ids)
            for b in ids[n + 1 :]
            if cdist(voxels[a], voxels[b]).min() <= gap_nm
        ]
        for _ in near:
            for a, b in near:
                name[a] = name[b] = min(name[a], name[b])
    return {old: kept for old, kept in name.items() if old != kept}


def test_merge_and_go_on(finished, command, tmp_path) -> None:
    """Measures, partners and tables are those of the joined objects; the others stay."""
    mapping = expected_mapping(finished, GAP_NM)
    before = read_table(finished.output / "synapses.csv").set_index("syn_id")
    assert 3 <= len(mapping) < len(before) - 3
    folder = tmp_path / "merged"
    code, out, err = command("merge", finished.file, "--gap-nm", GAP_NM, "-o", folder)
    assert code == 0, err
    kept = len(set(mapping.values()))
    assert f"{len(mapping) + kept} objects become {kept}" in out
    assert out.endswith(f"Then: cnapse run {folder / 'cnapse.toml'}\n")
    listed = pd.read_csv(folder / "merges.csv")
    assert set(listed["syn_id"]) | set(listed["other_id"]) == set(mapping) | set(mapping.values())

    old = finished.objects()
    joined = open_layer(folder / "synapses", mip=0).read(finished.box)
    expected = old.copy()
    for retired, name in mapping.items():
        expected[old == retired] = name
    np.testing.assert_array_equal(joined, expected)

    code, _, err = command("run", folder / "cnapse.toml", "--workers", 1)
    assert code == 0, err
    after = read_table(folder / "run/synapses.csv").set_index("syn_id")
    assert sorted(after.index) == sorted(set(before.index) - set(mapping))
    measured = measure(expected, finished.cells, finished.box).set_index("syn_id")
    for column in ("pre_id", "size", "voxels", "sections", "first_voxel", "x_pos", "z_pos"):
        np.testing.assert_array_equal(after[column], measured.loc[after.index, column])
    same = after.index.difference(list(mapping.values()))
    # All columns: the new run is made as the old one was, and its map was not forgotten.
    unchanged = after.columns.drop("link")
    pd.testing.assert_frame_equal(after.loc[same, unchanged], before.loc[same, unchanged])
    assert after["mean_probability"].notna().all()
    partners = read_table(folder / "run/partners.csv")
    assert set(mapping.values()) & set(partners["syn_id"])


def test_the_configuration_that_is_written(finished, command, tmp_path) -> None:
    command("merge", finished.file, "--gap-nm", GAP_NM, "-o", tmp_path / "m")
    new, old = load_config(tmp_path / "m/cnapse.toml"), load_config(finished.file)
    assert new.layers.synapses is not None
    assert new.layers.synapses.path == f"file://{tmp_path}/m/synapses"
    assert new.output == f"file://{tmp_path}/m/run"
    assert (new.link.image, new.link.synapses) == ("gs://b/image", "")
    update = {"output": old.output, "layers": old.layers, "link": old.link}
    assert new.model_copy(update=update) == old
    assert new.layers.model_copy(update={"synapses": None}) == old.layers


def test_the_map_that_the_run_made_is_given_on(finished, tmp_path) -> None:
    """A run from the image keeps its map in its output; in the new one it is a layer."""
    from cnapse.runs import open_run
    from cnapse_cli.merge import merged_config

    folder = tmp_path / "earlier"
    file = folder / "cnapse.toml"
    folder.mkdir()
    file.write_text(
        'output = "out"\nresolution = [4, 4, 50]\nnames = "a \\"b\\".csv"\n[layers]\n'
        'image = "probability"\n[detect]\nmodel = "phantom"\n'
    )
    run = open_run(file)
    assert "layers.probability" not in merged_config(run, tmp_path / "m")
    create_layer(
        folder / "out/probability",
        kind="image",
        dtype="uint8",
        bounds=finished.box,
        chunk_size=(32, 32, 4),
    )
    new = tmp_path / "new.toml"
    new.write_text(merged_config(run, tmp_path / "m"))
    made = load_config(new)
    assert made.layers.probability is not None
    assert made.layers.probability.path == f"file://{folder}/out/probability"
    assert made.names == f'file://{folder}/a "b".csv'
    assert made.detect.model == "phantom"


@pytest.mark.parametrize("block", [(1, 1, 1), (32, 64, 4), (70, 33, 9), (512, 512, 64)])
def test_blocks_do_not_matter(finished, tmp_path, block) -> None:
    """File by file the same layer: that of the run, but for the ids."""
    source = open_layer(finished.output / "synapses", mip=0)
    mapping = expected_mapping(finished, GAP_NM)
    write_merged(source, tmp_path / "a", mapping, block)
    write_merged(source, tmp_path / "b", mapping, source.bounds.shape)
    one, other = Store(tmp_path / "a"), Store(tmp_path / "b")
    assert one.names() == other.names()
    for name in set(one.names()) - {"provenance"}:
        assert one.read(name) == other.read(name)
    copy = open_layer(tmp_path / "a")
    assert (copy.bounds, copy.chunk_size, copy.dtype) == (
        source.bounds,
        source.chunk_size,
        source.dtype,
    )
    scales = [layer.info["scales"][0] for layer in (copy, source)]
    assert scales[0] == scales[1]


def test_a_list_only(finished, command, tmp_path) -> None:
    before = sorted(finished.file.parent.rglob("*"))
    code, out, err = command("merge", finished.file, "--gap-nm", GAP_NM, "--dry-run")
    assert code == 0
    (tmp_path / "pairs.csv").write_text(out)
    listed = pd.read_csv(tmp_path / "pairs.csv")
    mapping = expected_mapping(finished, GAP_NM)
    assert set(listed["syn_id"]) | set(listed["other_id"]) == set(mapping) | set(mapping.values())
    assert (listed["gap_nm"] <= GAP_NM).all()
    assert f"{len(listed)} pairs within 105 nm" in err
    assert sorted(finished.file.parent.rglob("*")) == before


def test_nothing_to_join_writes_nothing(finished, command, tmp_path) -> None:
    code, out, _ = command("merge", finished.file, "--gap-nm", 0.5, "-o", tmp_path / "m")
    assert code == 0
    assert "Nothing to join, nothing written" in out
    assert not (tmp_path / "m").exists()


def test_what_was_left_half_is_no_layer_and_is_done_again(
    finished, command, monkeypatch, tmp_path
) -> None:
    folder = tmp_path / "m"
    put, count = Store.put, iter(range(5))

    def stopping(self, name, data) -> None:
        if next(count, None) is None:
            raise KeyboardInterrupt
        put(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", stopping)
        command("merge", finished.file, "--gap-nm", GAP_NM, "-o", folder)
    assert any(folder.rglob("*-*"))
    assert not (folder / "synapses/info").exists()
    assert not (folder / "cnapse.toml").exists()
    code, _, err = command("merge", finished.file, "--gap-nm", GAP_NM, "-o", folder)
    assert code == 0, err
    command("merge", finished.file, "--gap-nm", GAP_NM, "-o", tmp_path / "straight")
    assert load_info(folder / "synapses") == load_info(tmp_path / "straight/synapses")
    np.testing.assert_array_equal(
        *(
            open_layer(path / "synapses", mip=0).read(finished.box)
            for path in (folder, tmp_path / "straight")
        )
    )


def test_mistakes_are_one_line(finished, command, tmp_path) -> None:
    def line(*arguments: object) -> str:
        code, _, err = command("merge", *arguments)
        assert code == 1
        return err.replace("file://", "").replace(str(tmp_path), "HERE")

    file, gap = finished.file, ("--gap-nm", GAP_NM)
    assert line(file, *gap) == "cnapse: -o is missing: give a folder to write to, or --dry-run"
    assert line(file, "--gap-nm", -1, "--dry-run") == (
        "cnapse: gap_nm must be a positive number of nm, not -1.0"
    )
    assert line(file, *gap, "-o", "gs://bucket/m") == (
        "cnapse: -o gs://bucket/m: give a folder on this machine's disk"
    )
    (tmp_path / "m").mkdir()
    (tmp_path / "m/cnapse.toml").touch()
    assert line(file, *gap, "-o", tmp_path / "m") == (
        "cnapse: -o HERE/m: there is cnapse.toml already: delete the folder or choose another one"
    )
    assert line(file, *gap, "-o", finished.output).endswith(
        "there is synapses/info already: delete the folder or choose another one"
    )
    early = tmp_path / "early.toml"
    early.write_text(file.read_text().replace('"out"', '"none"'))
    assert line(early, *gap, "--dry-run").endswith(
        "/none has no tables yet: finish the run first with `cnapse run`"
    )
