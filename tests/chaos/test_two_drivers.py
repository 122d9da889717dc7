"""Two drivers on one run at once, in processes of their own: one result."""

import os
import subprocess
import sys

from cnapse.store import Store


def start(config, *options: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "cnapse_cli", "run", str(config), *options]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_two_drivers_with_workers_of_their_own_give_one_result(
    tissue, tmp_path, fingerprint, run_here
) -> None:
    quiet = tissue.config(tmp_path / "quiet")
    run_here(quiet)
    config = tmp_path / "cnapse.toml"
    config.write_text(
        f"""
        output = "{tmp_path}/out"
        resolution = [4, 4, 50]
        block = [64, 64, 8]
        layers.probability = "{tissue.folder}/probability"
        layers.cells = "{tissue.folder}/cells"
        label.min_voxels = 5
        assign.method = "both"
        viewer = {{ properties = false, annotations = false }}
        """
    )
    drivers = [start(config, "--workers", "1") for _ in range(2)]
    said = [driver.communicate(timeout=240)[0].decode() for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    # Both tell of the same, complete run.
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
    assert "synapses" in said[0].splitlines()[-1]
    made = quiet.model_copy(update={"output": f"file://{tmp_path}/out"})
    assert fingerprint(made) == fingerprint(quiet)
    left = Store(made.output).child(".cnapse").names()
    assert not [name for name in left if "/tries/" in name or "/aside/" in name]
    assert not (tmp_path / "out/.cnapse/queue").exists()
