"""The small public face."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
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


# --- docstrings -----------------------------------------------------------------------------------


def public_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions in the `__all__` of each module of the library, and methods of its classes."""
    for file in sorted((ROOT / "cnapse").rglob("*.py")):
        tree = ast.parse(file.read_text())
        listed = next(
            (
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            ),
            None,
        )
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if listed is not None and node.name not in listed:
                continue
            where = f"{file.relative_to(ROOT)}: {node.name}"
            if isinstance(node, ast.FunctionDef):
                yield where, node
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{where}.{method.name}", method


def documented(doc: str) -> set[str] | None:
    """Names in the section of parameters; none if there is no such section."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\S[^\n]*\n---|\Z)", doc, re.S | re.M)
    if section is None:
        return None
    heads = [line.split(" : ")[0] for line in section[1].splitlines() if line[:1].strip()]
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def taken(function: ast.FunctionDef) -> dict[str, str]:
    """Parameters and their annotations."""
    a = function.args
    several = [a.vararg, a.kwarg]
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(arg for arg in several if arg is not None)]
    return {
        arg.arg: ast.unparse(arg.annotation) if arg.annotation else ""
        for arg in every
        if arg.arg not in ("self", "cls")
    }


def raised(function: ast.FunctionDef) -> set[str]:
    """Names of the errors that the body itself raises."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id.endswith("Error"):
                found.add(error.id)
    return found


def test_the_check_of_docstrings_sees_what_is_missing() -> None:
    source = '''
def f(self, a: int, b: NDArray, *, c=1):
    """Does.

    Parameters
    ----------
    a, b : int
        Note : of it.
    d

    Returns
    -------
    int
    """
    if a:
        raise BoundsError("x")
'''
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert documented(ast.get_docstring(function) or "") == {"a", "b", "d"}
    assert taken(function) == {"a": "int", "b": "NDArray", "c": ""}
    assert raised(function) == {"BoundsError"}
    assert documented("Does.") is None


def test_docstrings_name_parameters_arrays_and_errors() -> None:
    """A section of parameters names all of them and no other; each array is described somewhere.

    So is each error that the body raises.
    """
    wrong = []
    for where, function in public_functions():
        doc, parameters = ast.get_docstring(function) or "", taken(function)
        named = documented(doc)
        if named is not None and named != set(parameters):
            wrong.append(f"{where}: parameters {sorted(named ^ set(parameters))}")
        arrays = {name for name, kind in parameters.items() if re.search("NDArray|ndarray", kind)}
        wrong += [
            f"{where}: array {name}"
            for name in arrays - (named or set())
            if not re.search(rf"\b{name}\b", doc)
        ]
        wrong += [f"{where}: {error}" for error in raised(function) if error not in doc]
    assert not wrong, "\n".join(wrong)
