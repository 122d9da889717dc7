"""Chosen parameters written into a `cnapse.toml`: nothing else changes."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.analysis.detection_settings import label_lines, write_label_section
from cnapse.errors import ConfigError

VALUES = {"threshold": 0.35, "connectivity": 18, "min_voxels": 40}

WITH_COMMENTS = """\
# mine
output = "out"   # there

[label]   # cut
threshold = 0.5   # guessed
#min_voxels = 3
block = [64,
  64, 64]

[assign]
threshold = 7
"""


def test_comments_and_order_stay(tmp_path) -> None:
    path = tmp_path / "cnapse.toml"
    path.write_text(WITH_COMMENTS)
    write_label_section(path, VALUES)
    assert path.read_text() == WITH_COMMENTS.replace(
        "threshold = 0.5   # guessed", "threshold = 0.35   # guessed"
    ).replace("# cut\n", "# cut\nconnectivity = 18\nmin_voxels = 40\n")
    assert list(tmp_path.iterdir()) == [path]
    again = path.read_text()
    write_label_section(path, VALUES)
    assert path.read_text() == again


@pytest.mark.parametrize("text", ["", 'output = "o"', 'output = "o"\r\n[tasks]\r\ntries = 1\r\n'])
def test_a_missing_section_comes_last(tmp_path, text) -> None:
    path = tmp_path / "cnapse.toml"
    path.write_bytes(text.encode())
    write_label_section(path, VALUES)
    written = path.read_bytes().decode()
    assert written.startswith(text)
    assert tomllib.loads(written) == {**tomllib.loads(text), "label": VALUES}
    assert ("\r\n" in written) == ("\r\n" in text)


@pytest.mark.parametrize(
    "text",
    ["label = { threshold = 0.5 }\n", "label.threshold = 0.5\n", '[label]\n"threshold" = 1\n'],
)
def test_other_spellings_are_left_alone(tmp_path, text) -> None:
    path = tmp_path / "cnapse.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"set \[label\]; threshold = 0.35; .* yourself"):
        write_label_section(path, VALUES)
    assert path.read_text() == text


_LINE = st.sampled_from(
    ["threshold = 0.5", "min_voxels=3 # x", "  connectivity = 6", "# threshold = 9", "",
     'note = """', '[label]', '"""', "block = [", "1]", "[tasks]", "[[label]]"]
)  # fmt: skip


@given(st.lists(_LINE, max_size=8))
@settings(max_examples=200, deadline=None)
def test_either_just_the_values_change_or_nothing(tmp_path_factory, lines) -> None:
    path = tmp_path_factory.mktemp("toml") / "cnapse.toml"
    text = "\n".join(lines)
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    path.write_text(text)
    if not isinstance(before.get("label", {}), dict):
        return
    try:
        write_label_section(path, VALUES)
    except ConfigError:
        assert path.read_text() == text
        return
    after = tomllib.loads(path.read_text())
    assert after == {**before, "label": {**before.get("label", {}), **VALUES}}


def test_lines_to_paste() -> None:
    pasted = tomllib.loads("\n".join(label_lines(VALUES)))
    assert pasted == {"label": VALUES}
