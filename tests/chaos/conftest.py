"""The modules of the chaos benchmark."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """The proxy."""
    return _module("_faults")


@pytest.fixture(scope="session")
def chaos() -> ModuleType:
    """Runs behind it."""
    for name in ("moto", "flask", "flask_cors"):
        pytest.importorskip(name)
    return _module("_chaos")


@pytest.fixture(scope="session")
def moto(chaos) -> ModuleType:
    """The server behind the proxy."""
    return _module("_moto")


def _module(name: str) -> ModuleType:
    sys.path.append(str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))
