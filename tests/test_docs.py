"""The docs say what the code does."""

import re
import tomllib
from pathlib import Path

from cnapse.config import Config
from cnapse.tables import TABLES, SynapseFlag

DOCS = Path(__file__).parents[1] / "docs"


def test_the_example_configuration_is_valid_and_complete() -> None:
    text = (DOCS / "configuration.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    values = tomllib.loads(example)
    config = Config.from_dict(values)
    assert config.assign.preset == "cnapse"
    keys = set(re.findall(r"^#? ?(\w+) =", example, re.MULTILINE)) | {"bounds", "block"}
    for name, field in Config.model_fields.items():
        assert name in keys or f"[{name}]" in example, (name, field)


def test_every_column_and_flag_is_in_the_docs() -> None:
    text = (DOCS / "tables.md").read_text()
    for schema in TABLES.values():
        section = text.split(f"## `{schema.name}`")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w*) \| (.*) \|$", section, re.MULTILINE)
        assert rows == [(c.name, c.dtype, c.unit, c.meaning) for c in schema.columns]
    for flag in SynapseFlag:
        assert f"| {int(flag)} | `{str(flag.name).lower()}` |" in text
