"""What lies in deploy/ agrees with itself and with cnapse."""

import re
import tomllib
from pathlib import Path

import pytest

from cnapse.config import Config
from cnapse_tasks.pool import _STOP_SECONDS
from cnapse_tasks.worker import GRACE_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
USER = 10001
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")


def instructions(name):
    """A Dockerfile's instructions, without comments."""
    lines = (DEPLOY / name).read_text().splitlines()
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return [" ".join(one.split()) for one in re.sub(r"\\\n", " ", code).splitlines() if one]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_pinned_small_and_without_root(name) -> None:
    code = instructions(name)
    (base,) = [line for line in code if line.startswith("ARG PYTHON_IMAGE=")]
    assert re.fullmatch(r"ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm", base)
    final = code[max(n for n, line in enumerate(code) if line.startswith("FROM")) :]
    assert f"USER {USER}:{USER}" in final
    assert any(f"useradd --uid {USER}" in line for line in final)
    # The exec form: SIGTERM reaches the worker, not a shell.
    assert 'ENTRYPOINT ["tini", "--", "cnapse"]' in final
    assert not re.search(r"gcc|g\+\+|build-essential", "\n".join(final))
    installs = [line for line in code if "pip install" in line and "--no-index" not in line]
    for line in installs:
        commands = re.findall(r"pip install .*?(?=&&|$)", line)
        assert all("--constraint constraints.txt" in command for command in commands)


def test_the_two_dockerfiles_differ_only_in_what_cuda_needs() -> None:
    """They would drift apart otherwise."""
    cpu, cuda = (instructions(name) for name in DOCKERFILES)
    only = {line.split("=")[0].split(" ")[0] for line in set(cpu) ^ set(cuda)}
    assert only == {"ARG", "RUN", "ENV"}
    assert len(set(cpu) - set(cuda)) == len(set(cuda) - set(cpu)) == 3


def test_the_builder_gets_all_that_the_images_are_made_of() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for name in DOCKERFILES
        for line in instructions(name)
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
    assert rules[1] == "*"


def test_the_requirements_of_the_layer_below_are_those_of_the_package(capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile((DEPLOY / "requirements.py").read_text(), "requirements.py", "exec"), {})
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out.splitlines() == project["dependencies"]


def test_images_have_one_tag_everywhere(deploy) -> None:
    named = {"image: " + c["image"] for c in deploy.containers()}
    assert named == {"image: cnapse", "image: cnapse-cuda"}
    (top,) = deploy.kubernetes["kustomization.yaml"]
    assert {i["name"]: i["newTag"] for i in top["images"]} == {
        "cnapse": VERSION,
        "cnapse-cuda": f"{VERSION}-cuda",
    }
    ours = {service["image"] for service in deploy.compose["services"].values()} - {
        "motoserver/moto:5.2.5",
        "chrislusf/seaweedfs:4.48",
    }
    assert ours == {f"cnapse:{VERSION}"}
    texts = [(DEPLOY / name).read_text() for name in DOCKERFILES]
    texts.append((ROOT / "docs/cluster.md").read_text())
    tags = {tag for text in texts for tag in re.findall(r"cnapse:(\d[\w.-]*)", text)}
    assert tags == {VERSION, f"{VERSION}-cuda"}


def test_compose_listens_on_loopback_only_and_keeps_no_secret(deploy) -> None:
    services = deploy.compose["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    text = (DEPLOY / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "compose/env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert used == set(example)
    assert example["CNAPSE_ACCESS_KEY"] == example["CNAPSE_SECRET_KEY"] == ""
    assert ".env" in (DEPLOY / "compose/.gitignore").read_text().splitlines()
    assert not (DEPLOY / "compose/.env").exists()


def test_compose_gives_workers_time_and_locks_them_in(deploy) -> None:
    services = deploy.compose["services"]
    for name in ("worker", "driver"):
        assert int(services[name]["stop_grace_period"].rstrip("s")) > _STOP_SECONDS
    for name in ("setup", "worker", "driver", "phantom", "viewer"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
    assert "user" not in services["worker"]  # the image's


def test_pods_may_do_nothing_but_work(deploy) -> None:
    assert set(deploy.pods) == {"driver", "worker", "worker-gpu"}
    for pod in deploy.pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == USER
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for container in deploy.containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        # What the image writes beside results goes there.
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert (
            container["resources"]["requests"]["memory"]
            == container["resources"]["limits"]["memory"]
        )


def test_pods_have_the_time_that_a_worker_needs_to_stop(deploy) -> None:
    assert GRACE_SECONDS < _STOP_SECONDS
    for pod in deploy.pods.values():
        assert pod["terminationGracePeriodSeconds"] > _STOP_SECONDS


def test_processes_fit_into_a_pod_and_its_shared_memory(deploy) -> None:
    for name in ("worker", "worker-gpu"):
        pod = deploy.pods[name]
        (container,) = pod["containers"]
        options = dict(zip(container["args"], container["args"][1:], strict=False))
        need = int(options["--workers"]) * float(options["--memory-limit"]) * 1e9
        (shm,) = [v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm"]
        assert shm["medium"] == "Memory"
        gib = [int(size.removesuffix("Gi")) for size in
               (container["resources"]["limits"]["memory"], shm["sizeLimit"])]  # fmt: skip
        assert need <= (gib[0] - gib[1]) * 2**30
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    (worker,) = deploy.pods["worker"]["containers"]
    assert worker["resources"]["requests"]["cpu"] == worker["args"][3]
    (gpu,) = deploy.pods["worker-gpu"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_workers_may_go_to_spot_nodes_and_the_driver_may_not(deploy) -> None:
    for name in ("worker", "worker-gpu"):
        keys = {toleration["key"] for toleration in deploy.pods[name]["tolerations"]}
        assert {"spot", "cloud.google.com/gke-spot"} <= keys
        assert deploy.pods[name]["affinity"]["nodeAffinity"]
    assert "nvidia.com/gpu" in {t["key"] for t in deploy.pods["worker-gpu"]["tolerations"]}
    assert "tolerations" not in deploy.pods["driver"]


def test_every_variable_and_every_thing_named_is_there(deploy) -> None:
    """A name that is wrong would show only in the cluster."""
    settings = dict(
        line.split("=", 1) for line in (DEPLOY / "kubernetes/settings.env").read_text().split()
    )
    words = [word for c in deploy.containers() for word in c["args"]]
    words += [op["value"] for op in deploy.patches() if isinstance(op["value"], str)]
    used = {name for word in words for name in re.findall(r"\$\((\w+)\)", word)}
    assert used == {"CNAPSE_QUEUE", "CNAPSE_GPU_QUEUE"}
    assert used < set(settings)
    (top,) = deploy.kubernetes["kustomization.yaml"]
    made = {generator["name"] for generator in top["configMapGenerator"]}
    (account,) = deploy.kubernetes["serviceaccount.yaml"]
    (secret,) = deploy.kubernetes["secret.example.yaml"]
    assert "secret.example.yaml" not in top["resources"]
    assert set(secret["stringData"].values()) == {"placeholder", ""}
    for container in deploy.containers():
        config, credentials = container["envFrom"]
        assert config["configMapRef"]["name"] in made
        assert credentials["secretRef"]["name"] == secret["metadata"]["name"]
    for pod in deploy.pods.values():
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        mounts = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        maps = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
        assert maps <= made
    for path, documents in deploy.kubernetes.items():
        for document in documents:
            for resource in document.get("resources", []):
                assert (DEPLOY / "kubernetes" / path).parent.joinpath(resource).is_file()
    scaled, login = deploy.kubernetes["keda/scaledobject.yaml"]
    (trigger,) = scaled["spec"]["triggers"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in deploy.pods
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    assert f"sqs://{trigger['metadata']['queueURL']}" == settings["CNAPSE_QUEUE"]
    assert trigger["metadata"]["awsRegion"] == settings["AWS_DEFAULT_REGION"]


def test_configurations_are_valid_and_the_viewers_is_the_runs() -> None:
    paths = ["compose/cnapse.toml", "compose/viewer.toml", "kubernetes/cnapse.toml"]
    configs = [tomllib.loads((DEPLOY / path).read_text()) for path in paths]
    for values in configs:
        Config.from_dict(values)
    run, viewer, _ = configs
    assert viewer == run | {"output": "/data/run"}
