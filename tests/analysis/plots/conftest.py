"""Small tables of partners, written to files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

Row = tuple[int, str, str, float]


@pytest.fixture
def table(tmp_path) -> Callable[..., Path]:
    """Write rows of syn_id, pre, post and size as a CSV; where it is."""

    def write(rows: Sequence[Row], name: str = "partners.csv", **columns: object) -> Path:
        frame = pd.DataFrame(rows, columns=["syn_id", "pre", "post", "size"]).assign(**columns)
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write
