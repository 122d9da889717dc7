"""What the README says in Python works as it stands there."""

import re
from pathlib import Path

import numpy as np

from cnapse.tables import PARTNERS, empty_table, write_table
from cnapse.volumes.writer import create_layer

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs(tissue, tmp_path, monkeypatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    bounds = type(tissue.box).from_shape((512, 512, 16), (4.6, 4.6, 50))
    image = np.arange(bounds.voxels, dtype=np.uint32).astype(np.uint8).reshape(bounds.shape)
    for name, kind, array in (
        ("image", "image", image),
        ("cells", "segmentation", image.astype(np.uint64)),
    ):
        writer = create_layer(
            f"OUT/{name}", kind=kind, dtype=array.dtype, bounds=bounds, chunk_size=(128, 128, 16)
        )
        writer.write(array, bounds)
    write_table(empty_table(PARTNERS), "run/partners.csv", PARTNERS)
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)
    cutouts = names["cutouts"]
    assert isinstance(cutouts, dict)
    np.testing.assert_array_equal(cutouts["image"], image[100:400, 100:300, 5:10])
    assert cutouts["cells"].shape == (300, 200, 5)


def test_the_readme_names_only_commands_that_there_are() -> None:
    from cnapse_cli.main import app

    known = {c.callback.__name__ for c in app.registered_commands if c.callback}
    known |= {group.name for group in app.registered_groups}
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    said = set(re.findall(r"^cnapse (\w+)", "\n".join(blocks), re.MULTILINE))
    assert said <= known
    assert {"demo", "ingest", "run", "status", "view", "measure", "partners"} <= said


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README.read_text())
    assert pictures
    for picture in pictures:
        assert (README.parent / picture).is_file()
