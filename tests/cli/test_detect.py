import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cnapse.detection.checkpoint import load_bundle
from cnapse.detection.inference import detect_whole
from cnapse.volumes.files import read_volume
from cnapse_cli.main import app

IMAGE = np.random.default_rng(0).integers(60, 190, (50, 40, 2), dtype=np.uint8)
IMAGE[20:30, 10:30] = 20


@pytest.fixture(autouse=True)
def _own_malloc(monkeypatch):
    """The test process keeps its own settings of malloc."""
    monkeypatch.setattr("cnapse_cli.detect._prepare_process", lambda: None)


def run(*arguments):
    return CliRunner().invoke(app, ["detect", "--model", "phantom", *map(str, arguments)])


def test_a_file_becomes_a_file(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", IMAGE.T)
    result = run("--image", tmp_path / "x.tif", "-o", tmp_path / "p.h5", "--resolution", 4, 4, 50)
    assert result.exit_code == 0, result.output
    assert "[0:50 0:40 0:2] at 4 x 4 x 50 nm, eager float32 on cpu, written to" in result.output
    found, box = read_volume(tmp_path / "p.h5")
    np.testing.assert_array_equal(found, detect_whole(IMAGE, load_bundle("phantom")))
    assert box.resolution == (4, 4, 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resolution", 8, 8, 50], "was trained at 4 x 4 x 50 nm"),
        ([], "does not tell its voxel size: give --resolution X Y Z"),
        (["--resolution", 4, 4, 50, "--augment", "so"], 'must be "none", "flips" or "all"'),
        (["--resolution", 4, 4, 50, "--precision", "half"], '"float32" or "bfloat16", not'),
        (["--resolution", 4, 4, 50, "--tile", 30, 30], "must be a multiple of 16 px"),
        (["--resolution", 4, 4, 50, "--device", "gpu9"], "device 'gpu9' cannot be used"),
    ],
)
def test_errors_name_the_way_out_and_leave_no_file(tmp_path, options, message):
    tifffile.imwrite(tmp_path / "x.tif", IMAGE.T)
    result = run("--image", tmp_path / "x.tif", "-o", tmp_path / "p.tif", *options)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]
