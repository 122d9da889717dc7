"""The small public face."""

import ast
import subprocess
import sys
from pathlib import Path

import cnapse

ROOT = Path(__file__).parents[1]


def test_all_is_sorted_and_there() -> None:
    assert list(cnapse.__all__) == sorted(cnapse.__all__)
    for name in cnapse.__all__:
        assert getattr(cnapse, name) is not None


def test_importing_cnapse_is_cheap() -> None:
    code = (
        "import sys, cnapse, cnapse_tasks.stages;"
        "heavy = {'torch', 'igneous', 'matplotlib', 'neuroglancer'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    path = ":".join(str(ROOT / name) for name in ("", "tasks", "scripts"))
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})


def test_igneous_is_imported_in_one_module() -> None:
    found = set()
    for folder in ("cnapse", "tasks", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                if any(name.split(".")[0] == "igneous" for name in names):
                    found.add(file.relative_to(ROOT).as_posix())
    assert found == {"tasks/cnapse_tasks/igneous.py"}


def test_no_assert_outside_of_tests() -> None:
    for folder in ("cnapse", "tasks", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text())
            assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)], file
