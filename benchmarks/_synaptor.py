"""Synaptor's segmentation stages from a checkout, without the parts that need a database or torch.

The checkout stays as it is: its package is copied, and its extensions are compiled there.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_EXTENSIONS = ("_seg_utils", "_relabel", "_describe")


def build(checkout: Path, target: Path) -> None:
    """Copy the package into a folder, and compile its extensions."""
    import torch

    package = target / "synaptor"
    shutil.copytree(checkout / "synaptor", package)
    # torch brings pybind11's headers along.
    includes = [f"{Path(torch.__file__).parent}/include", sysconfig.get_paths()["include"]]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compilers = []
    for name in _EXTENSIONS:
        source = package / "seg_utils" / f"{name}.cpp"
        command = ["g++", "-O3", "-shared", "-std=c++14", "-fPIC", "-w", str(source)]
        command += [f"-I{include}" for include in includes]
        compilers.append(subprocess.Popen([*command, "-o", f"{source.parent}/{name}{suffix}"]))
    if any(compiler.wait() for compiler in compilers):
        raise SystemExit("Synaptor's extensions do not compile")


def segmentation_tasks(folder: Path) -> Any:
    """The module ``synaptor.proc.tasks`` of a folder that `build` filled."""
    if "synaptor.proc.tasks" in sys.modules:
        return sys.modules["synaptor.proc.tasks"]
    if importlib.util.find_spec("igraph") is None:
        sys.modules["igraph"] = _igraph()
    if importlib.util.find_spec("future") is None:
        sys.modules["future"] = _future()
    for name in ("synaptor", "synaptor.proc"):
        package = ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package
    # They need torch and more, and have no part in this.
    for name in ("synaptor.proc.edge", "synaptor.proc.anchor"):
        sys.modules[name] = ModuleType(name)
    sys.modules["synaptor"].bbox = importlib.import_module(  # type: ignore[attr-defined]
        "synaptor.types.bbox"
    )
    return importlib.import_module("synaptor.proc.tasks")


def _future() -> ModuleType:
    """python-future does nothing in Python 3."""
    module, library = ModuleType("future"), ModuleType("future.standard_library")
    library.install_aliases = lambda: None  # type: ignore[attr-defined]
    module.standard_library = library  # type: ignore[attr-defined]
    sys.modules["future.standard_library"] = library
    return module


def _igraph() -> ModuleType:
    """What Synaptor uses of python-igraph, by scipy."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    class Vertices(dict[str, Any]):
        count = 0

        def __len__(self) -> int:
            return self.count

    class Graph:
        def __init__(self, count: int) -> None:
            self.vs = Vertices()
            self.vs.count = self.count = count

        def add_edges(self, edges: Any) -> None:
            self.edges = np.asarray(list(edges), np.int64).reshape(-1, 2)

        def components(self) -> list[list[int]]:
            ones = np.ones(len(self.edges), np.int8)
            shape = (self.count, self.count)
            _, label = connected_components(coo_matrix((ones, self.edges.T), shape), False)
            order = np.argsort(label, kind="stable")
            starts = np.flatnonzero(np.diff(label[order], prepend=-1))
            return [part.tolist() for part in np.split(order, starts[1:]) if len(part)]

    module = ModuleType("igraph")
    module.Graph = Graph  # type: ignore[attr-defined]
    return module
