"""`cnapse evaluate`: a run against what is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]
