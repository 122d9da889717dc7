"""What cnapse depends on, one requirement a line: for a layer of an image without cnapse itself."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
sys.stdout.write("\n".join(project["dependencies"]) + "\n")
