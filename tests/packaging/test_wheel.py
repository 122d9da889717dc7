"""What a wheel of this tree carries: everything that runs, and nothing else."""

import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
DATA = (
    "cnapse/py.typed",
    "cnapse/analysis/report/report.html.jinja",
    "cnapse/models/phantom/model.json",
    "cnapse/models/phantom/weights.safetensors",
    "cnapse/review/web/static/index.html",
    "cnapse_tasks/planning/prices.toml",
    "cnapse_tasks/planning/reference.json",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    (made,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(made) as archive:
        yield {name: archive.read(name) for name in archive.namelist()}


def test_every_module_and_every_file_that_modules_read_is_in_it(wheel):
    for parent, name in ((".", "cnapse"), ("tasks", "cnapse_tasks"), ("scripts", "cnapse_cli")):
        base = ROOT / parent
        for file in (base / name).rglob("*.py"):
            inside = file.relative_to(base).as_posix()
            assert wheel[inside] == file.read_bytes(), inside
    assert set(DATA) <= set(wheel)


def test_the_page_of_review_finds_its_parts(wheel):
    page = wheel["cnapse/review/web/static/index.html"].decode()
    parts = [name.rsplit("/", 1)[1] for name in wheel if "/static/assets/" in name]
    assert sorted(name.rsplit(".", 1)[1] for name in parts) == ["css", "js"]
    assert all(name in page for name in parts)


def test_nothing_else_is_in_it(wheel):
    tops = {name.split("/", 1)[0] for name in wheel}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = f"cnapse-{version}.dist-info"
    assert tops == {"cnapse", "cnapse_tasks", "cnapse_cli", about}
    assert wheel[f"{about}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"cnapse = cnapse_cli.main:main" in wheel[f"{about}/entry_points.txt"]
    ends = {name.rsplit(".", 1)[1] for name in wheel if not name.startswith(about)}
    assert ends <= {"py", "typed", "jinja", "json", "safetensors", "toml"} | {
        "html", "svg", "css", "js", "sha256"
    }  # fmt: skip
