"""A whole run from buckets and web servers gives what one from disk gives."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import tensorstore

from cnapse.config import Config
from cnapse.errors import LayerNotFoundError
from cnapse.geometry import Box
from cnapse.outcome import outcome
from cnapse.runs import cutout, open_run
from cnapse.store import Store
from cnapse.tables import read_table
from cnapse.volumes.reader import open_layer
from cnapse.volumes.writer import create_layer
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, stages_of


def small(tissue, output, **changes) -> Config:
    """A run of few blocks."""
    return tissue.config(
        output, block=(96, 128, 12), assign={"method": "contact"}, pyramid={"levels": 2}, **changes
    )


def do_stages(config) -> None:
    """All tasks of all stages in this process, stage by stage."""
    for stage in stages_of(Run(config)):
        run = Run(config)
        stage.module.prepare(run)
        for index in stage.module.indices(run):
            stage.module.execute(run, index)


@pytest.fixture(scope="module")
def local(tissue, tmp_path_factory):
    """The run on disk."""
    config = small(tissue, tmp_path_factory.mktemp("local") / "out")
    do_stages(config)
    return config


def copied(source, target) -> None:
    """A layer from disk to a bucket as it is."""
    here, there = Store(source), Store(target)
    there.put_all([(name, here.read(name)) for name in here.names()])


def in_bucket(tissue, bucket: str) -> Config:
    """The same run with inputs and output in a bucket."""
    for name in ("probability", "cells"):
        copied(tissue.folder / name, f"{bucket}/in/{name}")
    layers = {name: f"{bucket}/in/{name}" for name in ("probability", "cells")}
    values = small(tissue, "unused").model_dump(mode="json", exclude_none=True)
    return Config.from_dict(values | {"output": f"{bucket}/out", "layers": layers})


def assert_same_results(found, expected) -> None:
    """Voxels of every mip, tables and CSVs."""
    here, there = Store(expected.output), Store(found.output)
    public = [
        [name for name in store.names() if not name.startswith(".cnapse/")]
        for store in (here, there)
    ]
    assert public[0] == public[1]
    count = len(open_layer(f"{expected.output}/synapses", mip=0).info["scales"])
    assert count > 1
    for mip in range(count):
        pair = [open_layer(f"{config.output}/synapses", mip=mip) for config in (found, expected)]
        assert pair[0].bounds == pair[1].bounds
        arrays = [layer.read(layer.bounds) for layer in pair]
        assert arrays[0].any()
        np.testing.assert_array_equal(*arrays)
    for name in ("synapses", "partners"):
        assert there.read(f"{name}.csv") == here.read(f"{name}.csv")
        tables = [read_table(f"{config.output}/tables/{name}") for config in (found, expected)]
        assert len(tables[0])
        pd.testing.assert_frame_equal(*tables)


def test_a_run_in_a_bucket_gives_what_one_on_disk_gives(aws, tissue, local) -> None:
    config = in_bucket(tissue, aws.bucket("lab"))
    do_stages(config)
    assert_same_results(config, local)
    assert len(open_run(config).partners)


def test_a_bucket_that_is_named_with_its_endpoint(aws, tissue, local, monkeypatch) -> None:
    """The environment gives keys and nothing else."""
    bucket = aws.bucket("own").replace("s3://", f"s3://{aws.endpoint}/")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    copied(local.output, f"{bucket}/out")
    config = local.model_copy(update={"output": f"{bucket}/out"})
    here, there = Run(local), Run(config)
    assert outcome(there)[0].startswith(f"{len(here.synapses)} synapses, ")
    assert outcome(there)[0].endswith(f" partners: {bucket}/out/synapses.csv and partners.csv")
    cut = {}
    for run in (here, there):
        layers = run.config.layers.model_copy(update={"image": run.config.layers.probability})
        shown = run.config.model_copy(update={"layers": layers})
        cut[shown.output] = cutout(shown, synapse=int(here.synapses["syn_id"].iloc[0]))
    np.testing.assert_array_equal(*(view.synapses for view in cut.values()))
    np.testing.assert_array_equal(*(view.probability for view in cut.values()))
    # The finest scale written anew, the others by igneous.
    layer = here.layer("synapses")
    there.output.delete_folder("synapses")
    there.create_output("synapses")
    there.writer("synapses").write(layer.read(layer.bounds), layer.bounds)
    stage = STAGES["pyramid"].module
    stage.prepare(there)
    for index in stage.indices(there):
        stage.execute(there, index)
    assert_same_results(config, local)


def test_layers_of_a_web_server(tissue, local, tmp_path) -> None:
    handler = partial(Quiet, directory=str(tissue.folder))
    with Server(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        url = f"http://127.0.0.1:{server.server_port}"
        layers = {name: f"{url}/{name}" for name in ("probability", "cells")}
        config = small(tissue, tmp_path / "out", layers=layers)
        do_stages(config)
        server.shutdown()
    assert_same_results(config, local)


class Server(ThreadingHTTPServer):
    """For twenty connections at a time; with room for five, others wait for a second."""

    request_queue_size = 64


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing."""

    def log_message(self, *args) -> None: ...


def test_chunks_in_a_bucket_say_that_they_are_compressed(aws) -> None:
    box = Box((0, 0, 0), (64, 64, 8), (4, 4, 40))
    path = aws.bucket("chunks") + "/layer"
    writer = create_layer(path, kind="image", dtype="uint8", bounds=box, chunk_size=(64, 64, 8))
    writer.write(np.full(box.shape, 7, np.uint8, order="F"), box)
    head = aws.client("s3").head_object(Bucket="chunks", Key="layer/4_4_40/0-64_0-64_0-8")
    assert head["ContentEncoding"] == "gzip"
    assert head["CacheControl"] == "no-cache"
    assert head["ContentLength"] < 1000
    found = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": {
                "driver": "s3",
                "bucket": "chunks",
                "path": "layer/",
                "endpoint": aws.endpoint,
                "aws_region": "us-east-1",
            },
        }
    ).result()
    np.testing.assert_array_equal(found[..., 0].read().result(), 7)


def test_folders_come_and_go(aws) -> None:
    store = Store(aws.bucket("store") + "/a/b")
    store.check_writable()
    assert store.names() == []
    assert store.get("x/none.json") is None
    assert not store.exists("x/none.json")
    with pytest.raises(LayerNotFoundError, match="s3://store/a/b/x is not there"):
        store.read("x")
    names = [f"x/{i:04d}" for i in range(1001)]
    store.put_all([(name, name.encode()) for name in names])
    store.put_all([("big", b"0" * 100_000)], compress=True)
    Store("s3://store/a/bc").put("other", b"")
    assert store.child("x").names() == store.names("x") == [n[2:] for n in names]
    assert store.read("x/1000") == b"x/1000"
    assert store.read("big") == b"0" * 100_000
    store.delete(["x/0000", "never there"])
    assert not store.exists("x/0000")
    store.delete_folder("x")
    assert store.names() == ["big"]
    assert Store("s3://store/a/bc").exists("other")
