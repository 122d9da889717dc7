"""The files of deploy/, read once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Deploy:
    """What deploy/ says, as plain values."""

    compose: dict[str, Any]
    kubernetes: dict[str, list[dict[str, Any]]]
    """Documents by the path of their file below deploy/kubernetes."""

    @property
    def kinds(self) -> list[dict[str, Any]]:
        """Every document of Kubernetes that is no kustomization."""
        every = [document for documents in self.kubernetes.values() for document in documents]
        return [d for d in every if d["kind"] not in {"Kustomization", "Component"}]

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods' specifications, by the name of what makes them."""
        return {
            d["metadata"]["name"]: d["spec"]["template"]["spec"]
            for d in self.kinds
            if d["kind"] in {"Deployment", "Job"}
        }

    def containers(self) -> Iterator[dict[str, Any]]:
        """Every container of every pod, and those that a component's patch adds."""
        for pod in self.pods.values():
            yield from pod.get("initContainers", []) + pod["containers"]
        for added in self.patches():
            if isinstance(added["value"], dict):
                yield added["value"]

    def patches(self) -> list[dict[str, Any]]:
        """The operations of components' patches that add something."""
        import yaml

        components = [d for ds in self.kubernetes.values() for d in ds if d["kind"] == "Component"]
        texts = [patch["patch"] for component in components for patch in component["patches"]]
        return [op for text in texts for op in yaml.safe_load(text) if op["op"] == "add"]


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install -e '.[dev]'")
    folder = DEPLOY / "kubernetes"
    return Deploy(
        yaml.safe_load((DEPLOY / "docker-compose.yml").read_text()),
        {
            str(path.relative_to(folder)): list(yaml.safe_load_all(path.read_text()))
            for path in sorted(folder.rglob("*.yaml"))
        },
    )
