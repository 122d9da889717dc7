"""The scripts for Slurm, run by bash with Slurm's variables, over a queue in a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "deploy/slurm"
MEMBER = {
    "SLURM_JOB_ID": "7",
    "SLURM_ARRAY_JOB_ID": "7",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_MEM_PER_CPU": "3500",
    "LOOK": "0.2",
}
PATIENCE = 200


@pytest.fixture
def cluster(tmp_path):
    """A folder that every node sees, with stand-ins for Slurm's own commands."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "scontrol", f'echo "$@" >> {tmp_path}/scontrol.txt')
    return tmp_path


def script(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def start(cluster, name, *words, cnapse, task=0):
    environment = os.environ | MEMBER | {
        "SLURM_ARRAY_TASK_ID": str(task),
        "CNAPSE": str(cnapse),
        "PATH": f"{cluster}/bin:{os.environ['PATH']}",
    }  # fmt: skip
    with (cluster / f"{name}-{task}.log").open("w") as log:
        return subprocess.Popen(
            ["bash", SLURM / name, *map(str, words)], env=environment, stdout=log, stderr=log
        )


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_driver_and_two_members_do_a_run(cluster, tissue) -> None:
    """Real ones, as far as `relabel`; members start before the queue is there."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "tasks", "scripts"))
    cnapse = script(
        cluster / "cnapse",
        f'PYTHONPATH={path} OMP_NUM_THREADS=1 exec {sys.executable} -m cnapse_cli "$@"',
    )
    toml = cluster / "cnapse.toml"
    toml.write_text(
        f'output = "{cluster}/run"\nresolution = [4, 4, 50]\nblock = [96, 128, 32]\n'
        f'[layers]\nprobability = "{tissue.folder}/probability"\n'
    )
    queue = cluster / "queue"
    started = [
        start(cluster, "workers.sbatch", queue, cnapse=cnapse, task=0),
        start(cluster, "workers.sbatch", queue, cnapse=cnapse, task=1),
        start(cluster, "driver.sbatch", toml, queue, "--to", "relabel", cnapse=cnapse),
    ]
    try:
        codes = [process.wait(PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
    said = {path.name: path.read_text() for path in cluster.glob("*.log")}
    assert codes == [0, 0, 0], said
    assert (cluster / "run/synapses/info").is_file()
    lines = [
        json.loads(line)
        for name, text in said.items()
        if name.startswith("workers")
        for line in text.splitlines()
        if line.startswith("{")
    ]
    stages = {line["stage"] for line in lines if line.get("outcome") == "done"}
    assert stages == {"label", "stitch", "relabel"}
    assert not (cluster / "scontrol.txt").exists()


def waits_for_sigterm(cluster):
    """In place of cnapse: says that it began, and that SIGTERM came."""
    return script(
        cluster / "cnapse",
        f"trap 'echo term >> {cluster}/told.txt; exit 0' TERM; echo \"$@\" >> {cluster}/told.txt\n"
        "while :; do sleep 0.1; done",
    )


@pytest.mark.parametrize(
    ("name", "again"), [("workers.sbatch", "requeue 7_3"), ("driver.sbatch", "requeue 7")]
)
def test_at_the_end_of_its_time_a_job_queues_again(cluster, name, again) -> None:
    """Slurm sends SIGTERM to the script alone (``--signal=B:TERM``)."""
    queue = cluster / "queue"
    queue.mkdir()
    words = [queue] if name.startswith("workers") else ["cnapse.toml", queue]
    job = start(cluster, name, *words, cnapse=waits_for_sigterm(cluster), task=3)
    told = cluster / "told.txt"
    try:
        until(told.exists)
        job.send_signal(signal.SIGTERM)
        assert job.wait(PATIENCE) == 0
    finally:
        job.kill()
    assert told.read_text().splitlines()[1:] == ["term"]
    assert (cluster / "scontrol.txt").read_text().strip() == again
    assert not (cluster / "queue.done").exists()


def test_a_member_keeps_to_its_share_of_the_memory(cluster) -> None:
    """2 processes of 3500 MB together, less a tenth; it ends when the driver says so."""
    (cluster / "queue").mkdir()
    job = start(
        cluster, "workers.sbatch", cluster / "queue", 2, cnapse=waits_for_sigterm(cluster)
    )  # fmt: skip
    told = cluster / "told.txt"
    try:
        until(told.exists)
        (cluster / "queue.done").touch()
        assert job.wait(PATIENCE) == 0
    finally:
        job.kill()
    first, second = told.read_text().splitlines()
    assert "--workers 2 --memory-limit 1.5 " in first
    assert second == "term"


@pytest.mark.parametrize("code", [1, 3])
def test_a_driver_that_fails_fails_its_job_and_lets_the_members_go(cluster, code) -> None:
    cnapse = script(cluster / "cnapse", f"exit {code}")
    job = start(cluster, "driver.sbatch", "cnapse.toml", cluster / "queue", cnapse=cnapse)
    assert job.wait(PATIENCE) == code
    assert (cluster / "queue.done").exists()


@pytest.mark.parametrize("name", ["workers.sbatch", "driver.sbatch"])
def test_slurm_is_told_to_signal_the_script_and_to_queue_again(name) -> None:
    text = (SLURM / name).read_text()
    assert "#SBATCH --signal=B:TERM@60\n" in text
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --open-mode=append\n" in text
