"""Published connectomes, through a module that stands in for cect."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cnapse.analysis.plots.connectomes import published_edges, published_names
from cnapse.errors import ConfigError, FormatError

CHEMICAL = ("Generic_CS", "GABA")


@pytest.fixture
def cect(tmp_path, monkeypatch) -> Path:
    """A package with cect's interface, as of 0.3.5, and two data sets in its store."""
    root = tmp_path / "site" / "cect"
    for folder in ("readers", "cache"):
        (root / folder).mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "readers" / "__init__.py").write_text("")
    for reader in ("WitvlietDataReader8", "FuncReader", "BrokenReader"):
        (root / "readers" / f"{reader}.py").write_text("raise RuntimeError('not imported')")
    (root / "Neurotransmitters.py").write_text(
        "CHEMICAL_SYN_TYPE = 'Chemical'\n"
        "def get_syn_type_from_synclass(name):\n"
        "    print('noise')\n"
        f"    return 'Chemical' if name in {CHEMICAL!r} else 'GapJunction'\n"
    )
    (root / "ConnectomeDataset.py").write_text(
        "import json, os, pathlib, types\nimport numpy as np\n"
        "def get_cache_filename(reader):\n"
        "    return os.path.dirname(os.path.abspath(__file__)) + '/cache/%s.json' % reader\n"
        "def load_connectome_dataset_file(filename, verbose=False):\n"
        "    print('cect >>> noise')\n"
        "    d = json.loads(pathlib.Path(filename).read_text())\n"
        "    made = {k: np.array(v) for k, v in d['connections'].items()}\n"
        "    return types.SimpleNamespace(nodes=d['nodes'], connections=made)\n"
    )
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    a[0, 1], a[1, 2], b[0, 1], b[2, 0] = 5, 2, 1, 4
    stored = {
        "WitvlietDataReader8": {"Generic_CS": a, "GABA": b, "Generic_GJ": a + 7},
        "FuncReader": {"Generic_GJ": a},
        "symmetry_measures": {},
    }
    for name, connections in stored.items():
        lists = {kind: array.tolist() for kind, array in connections.items()}
        content = {"nodes": ["AVAL", "AVAR", "RIS"], "connections": lists}
        (root / "cache" / f"{name}.json").write_text(json.dumps(content))
    (root / "cache" / "BrokenReader.json").write_text("{")
    monkeypatch.syspath_prepend(str(root.parent))
    _forget(monkeypatch)
    yield root
    _forget(monkeypatch)


def _forget(monkeypatch) -> None:
    for name in [n for n in sys.modules if n == "cect" or n.startswith("cect.")]:
        monkeypatch.delitem(sys.modules, name)


def test_chemical_connections_are_added_up(cect, capsys):
    assert published_names() == ["Broken", "Func", "Witvliet8"]
    edges = published_edges("cect:witvliet8")
    assert sorted(edges.itertuples(index=False, name=None)) == [
        ("AVAL", "AVAR", 6.0),
        ("AVAR", "RIS", 2.0),
        ("RIS", "AVAL", 4.0),
    ]
    assert capsys.readouterr().out == ""


def test_what_cannot_be_had(cect):
    with pytest.raises(
        ConfigError, match="cect has no connectome 'Cook': it has Broken, Func, Wit"
    ):
        published_edges("cect:Cook")
    with pytest.raises(FormatError, match="cect's Func has no chemical synapses: take another"):
        published_edges("Func")
    with pytest.raises(
        FormatError, match=r"BrokenReader.json cannot be read: .*; install cect again"
    ):
        published_edges("Broken")


def test_without_the_package(monkeypatch):
    _forget(monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"need the package cect: pip install 'cnapse\[connectomes"
    ):
        published_names()
