"""A box out to a painting program, painted, and back in."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cnapse.errors import FormatError, LayerExistsError, LayerNotFoundError, ReviewError
from cnapse.geometry import Box
from cnapse.review.apply_editors import painted, sheet_of, write_for_editor
from cnapse.review.apply_repaint import read_repaint, write_repaint
from cnapse.review.decisions import Repainting
from cnapse.store import Store
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import open_writer

FRAME = Box.from_shape((40, 30, 10), (4, 4, 50), (1000, -20, 3))
BOX = Box((1004, -18, 4), (1020, -2, 9), FRAME.resolution)


@pytest.fixture
def labels() -> np.ndarray:
    found = np.zeros(BOX.shape, np.uint64)
    found[2:5, 2:5, 1], found[8:12, 8:12, 2:4] = 2**63 + 5, 77
    return found


def write(path: Path, labels: np.ndarray) -> None:
    write_for_editor(path, sheet_of(labels, BOX), np.zeros(BOX.shape, np.uint8))


def paint(path: Path, array: np.ndarray) -> None:
    """As an editor saves it."""
    if path.suffix:
        tifffile.imwrite(path, np.ascontiguousarray(array.T), photometric="minisblack")
    else:
        open_writer(path / "labels").write(np.asfortranarray(array.astype(np.uint32)), BOX)


@pytest.mark.parametrize("name", ["box.tif", "folder"])
def test_what_is_painted_comes_back(tmp_path, labels, name) -> None:
    path = tmp_path / name
    write(path, labels)
    if name == "folder":
        assert open_layer(path / "labels", mip=0).bounds == BOX
        small = open_layer(path / "labels", mip=0).read(BOX)
        assert open_layer(path / "image", mip=0).read(BOX).max() == 0
    else:
        small = tifffile.imread(path).T
        assert tifffile.imread(tmp_path / "box-image.tif").shape == BOX.shape[::-1]
        with tifffile.TiffFile(path) as file:
            assert file.imagej_metadata["spacing"] == 0.05
    # Ids need 64 bits; the numbers are 1, 2 in their order.
    assert np.unique(small).tolist() == [0, 1, 2]
    assert (small == 1).tolist() == (labels == 77).tolist()
    nothing, _ = painted(path, labels, FRAME)
    assert len(nothing.voxels) == 0
    drawn = small.astype(np.uint16)
    drawn[2:4, 2:5, 1], drawn[0, 0, 0], drawn[13:15, 2:9, 0] = 0, 1, 900
    paint(path, drawn)
    found, box = painted(path, labels, FRAME)
    assert box == BOX
    assert len(found.voxels) == 6 + 1 + 14
    store = Store(tmp_path / "repaints")
    digest = write_repaint(store, found, box)
    assert digest == write_repaint(store, found, box)
    decision = Repainting(start_nm=(0, 0, 0), stop_nm=(1, 1, 1), source="x", digest=digest)
    parts = {known: (len(voxels), place) for known, place, voxels in
             read_repaint(store, decision, FRAME).by_object()}  # fmt: skip
    assert {known: n for known, (n, _) in parts.items()} == {0: 6, 77: 1, None: 14}
    inside = (np.array(parts[77][1]) / FRAME.resolution).astype(int) - BOX.start
    assert labels[tuple(inside)] == 77
    with pytest.raises(ReviewError, match="does not lie in the layer"):
        read_repaint(store, decision, Box.from_shape((9, 9, 9), FRAME.resolution))
    missing = decision.model_copy(update={"digest": "0" * 64})
    with pytest.raises(ReviewError, match="keep the folder `repaints` beside the log"):
        read_repaint(store, missing, FRAME)


def test_what_an_editor_spoils_is_one_line(tmp_path, labels) -> None:
    path = tmp_path / "box.tif"
    write(path, labels)
    with pytest.raises(LayerExistsError, match="it is there already"):
        write(path, labels)
    good = tifffile.imread(path).T
    for spoilt, message in (
        (good[1:], "save all of it, neither cropped nor scaled"),
        (good.astype(np.float32), "save labels as whole numbers from 0 on, not as colours"),
        (good.astype(np.int16) - 1, "or numbers below 0"),
    ):
        paint(path, spoilt)
        with pytest.raises(FormatError, match=message):
            painted(path, labels, FRAME)
    path.write_bytes(b"no TIFF")
    with pytest.raises(FormatError, match="is not a TIFF that can be read"):
        painted(path, labels, FRAME)
    paint(path, good)
    with pytest.raises(FormatError, match="export the box again and paint that"):
        painted(path, labels + (labels > 0), FRAME)
    with pytest.raises(FormatError, match="does not lie in the layer"):
        painted(path, labels, Box.from_shape((9, 9, 9), FRAME.resolution))
    (tmp_path / "box.json").write_text('{"format": "other"}')
    with pytest.raises(FormatError, match="this is no list of `cnapse repaint export`"):
        painted(path, labels, FRAME)
    (tmp_path / "box.json").unlink()
    with pytest.raises(LayerNotFoundError, match="keep it beside what `cnapse repaint"):
        painted(path, labels, FRAME)
