"""The command with everything in a bucket, and what it says when the bucket refuses."""

import re

import numpy as np
import pytest
import tifffile

from cnapse.store import Store
from cnapse.volumes.reader import open_layer


def write_config(path, output, layers, **more) -> None:
    lines = [f'output = "{output}"', "resolution = [4, 4, 50]", "block = [160, 128, 20]"]
    lines += ["[layers]", *(f'{name} = "{where}"' for name, where in layers.items())]
    lines += ["[label]", "min_voxels = 5", "[pyramid]", "levels = 1"]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def bucket(aws, tissue) -> str:
    """A bucket with both layers."""
    url = aws.bucket("lab")
    for name in ("probability", "cells"):
        here = Store(tissue.folder / name)
        Store(f"{url}/{name}").put_all([(n, here.read(n)) for n in here.names()])
    return url


def test_from_init_to_status(cnapse, bucket, tmp_path) -> None:
    layers = {name: f"{bucket}/{name}" for name in ("probability", "cells")}
    code, out, _ = cnapse(
        "init", "-o", tmp_path / "drafted.toml", "--output", f"{bucket}/drafted",
        *(part for name, path in layers.items() for part in (f"--{name}", path)),
    )  # fmt: skip
    assert code == 0
    assert f'"{bucket}/probability"' in (tmp_path / "drafted.toml").read_text()
    config = tmp_path / "cnapse.toml"
    # Without cells there are fewer stages.
    write_config(config, f"{bucket}/out", {"probability": layers["probability"]})
    code, out, _ = cnapse("run", config, "--workers", 1)
    told = f"synapses: {bucket}/out/synapses; no tables, since there is no layers.cells\n"
    assert (code, out) == (0, told)
    code, out, _ = cnapse("status", config)
    assert code == 0
    assert re.search(r"relabel +1 / 1", out)


def test_a_bucket_that_is_not_there(cnapse, bucket, tmp_path) -> None:
    config = tmp_path / "cnapse.toml"
    layers = {name: f"{bucket}/{name}" for name in ("probability", "cells")}
    write_config(config, "s3://labb/out", layers)
    code, _, err = cnapse("run", config)
    assert code == 1
    assert "there is no bucket labb (AWS_ENDPOINT_URL is http://127.0.0.1:" in err
    assert err.endswith("): check its name, or make it")
    write_config(config, f"{bucket}/out", layers | {"cells": "s3://labb/cells"})
    code, _, err = cnapse("run", config)
    assert code == 1
    assert err.startswith("cnapse: s3://labb/cells: there is no bucket labb")
    write_config(config, f"{bucket}/out", layers | {"cells": f"{bucket}/cell"})
    code, _, err = cnapse("run", config)
    assert code == 1
    assert f"{bucket}/cell: no such layer: there is no file named info; check the path" in err


def test_nobody_answers(cnapse, bucket, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CNAPSE_RETRY_SECONDS", "0.3")
    own = "s3://http://127.0.0.1:9/lab"
    config = tmp_path / "cnapse.toml"
    layers = {name: f"{bucket}/{name}" for name in ("probability", "cells")}
    write_config(config, f"{own}/out", layers)
    code, _, err = cnapse("run", config)
    assert code == 1
    assert re.match(r"cnapse: s3://http://127.0.0.1:9/lab/out\S* cannot be reached: ", err)
    assert err.endswith(", then run the same command again")
    assert "\n" not in err


def test_stacks_are_brought_into_a_bucket(cnapse, aws, tmp_path) -> None:
    array = np.random.default_rng(0).integers(1, 255, (9, 40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", array)
    url = aws.bucket("stacks")
    arguments = ("ingest", tmp_path / "stack.tif", f"{url}/image", "--resolution", 4, 4, 40)
    assert cnapse(*arguments)[0] == 0
    layer = open_layer(f"{url}/image")
    np.testing.assert_array_equal(layer.read(layer.bounds), array.transpose())
    code, _, err = cnapse(*arguments)
    assert code == 1
    assert "there is a layer already: use another path, or --overwrite" in err
    assert cnapse(*arguments, "--overwrite")[0] == 0
