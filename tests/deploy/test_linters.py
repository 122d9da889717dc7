"""deploy/ through the linters of its languages; each is skipped where it is not installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sbatch"))


def tool(name):
    """A program of this environment or of the machine."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


def passes(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_hadolint(name) -> None:
    passes(tool("hadolint"), str(DEPLOY / name))


def test_bash_and_shellcheck() -> None:
    assert len(SCRIPTS) == 2
    for script in SCRIPTS:
        passes("bash", "-n", str(script))
    passes(tool("shellcheck"), *map(str, SCRIPTS))


def test_compose_by_its_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    passes(tool("check-jsonschema"), *schema, str(DEPLOY / "docker-compose.yml"))


def test_kubernetes_by_its_schemas(deploy) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate: .[dev]")
    known = [d for d in deploy.kinds if not d["apiVersion"].startswith("keda.sh/")]
    assert len(known) == 6
    for document in known:
        for version in ("1.31", "1.37"):
            validate.validate(document, version, strict=True)


@pytest.mark.parametrize("components", [[], ["gpu"], ["keda"], ["gpu", "keda"]])
def test_kustomize_puts_the_parts_together(components, tmp_path, deploy) -> None:
    import yaml

    kubectl = tool("kubectl")
    folder = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", folder)
    top = folder / "kustomization.yaml"
    top.write_text(f"{top.read_text()}\ncomponents: {components}\n")
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}
    assert all(d["metadata"].get("namespace", "cnapse") == "cnapse" for d in made.values())
    (driver,) = made["Job", "driver"]["spec"]["template"]["spec"]["containers"]
    assert driver["image"].startswith("registry.example.org/cnapse:")
    assert ("--gpu-queue" in driver["args"]) == ("gpu" in components)
    assert (("Deployment", "worker-gpu") in made) == ("gpu" in components)
    assert ("replicas" in made["Deployment", "worker"]["spec"]) == ("keda" not in components)
    volumes = made["Job", "driver"]["spec"]["template"]["spec"]["volumes"]
    (config,) = [v["configMap"]["name"] for v in volumes if "configMap" in v]
    assert "cnapse.toml" in made["ConfigMap", config]["data"]
