"""Images by a range: against the formula in whole-array float64, and all that is refused."""

import json
import re
from fractions import Fraction

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cnapse.errors import ConfigError, FormatError
from cnapse.volumes.ingest import IngestOptions, plan_ingest
from cnapse.volumes.ranged import RangedSource, measure_range
from cnapse.volumes.reader import open_layer
from cnapse.volumes.sources import open_source

RESOLUTION = (4.6, 4.6, 50)


def says(text):
    return "^" + re.escape(text) + "$"


class Given:
    """A source of an array x, y, z."""

    name = "given"
    resolution = RESOLUTION
    begin = None
    chunk_size = None

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.asked = []

    def read_into(self, out, start, row=0):
        self.asked.append(start)
        out[...] = self.data[:, row : row + out.shape[1], start : start + out.shape[2]]

    def identity(self):
        return [["given"]]


def turned(source, start=0, stop=None, row=0):
    out = np.empty(
        (source.shape[0], source.shape[1] - row, (stop or source.shape[2]) - start), "u1"
    )
    source.read_into(out, start, row)
    return out


def by_hand(value, low, high):
    """The definition in exact fractions; halves to the even number, as Python rounds."""
    scaled = 255 * (Fraction(float(value)) - Fraction(low)) / (Fraction(high) - Fraction(low))
    return min(max(round(scaled), 0), 255)


NUMBERS = st.integers(-70000, 70000)


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]),
    low=NUMBERS,
    width=st.integers(1, 70000),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_formula_in_exact_fractions(dtype, low, width, seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.iinfo("int32")
    data = np.clip(rng.integers(low - 9, low + width + 9, 60), limits.min, limits.max)
    data = np.append(data, [limits.min, limits.max, 0, 1]).astype(dtype).reshape(4, 8, 2)
    expected = [by_hand(v, low, low + width) for v in data.ravel()]
    ranged = RangedSource(Given(data), low, low + width)
    # In float64 a half may be missed by the last bit.
    close = np.abs(turned(ranged).ravel().astype(int) - expected)
    halves = [
        (510 * (Fraction(float(v)) - low) / width).denominator == 1
        and (255 * (Fraction(float(v)) - low) / width).denominator == 2
        for v in data.ravel()
    ]
    assert (close[~np.array(halves)] == 0).all()
    assert (close <= 1).all()


def test_ends_middle_and_halves():
    data = np.array([0, 9, 10, 11, 264, 265, 266, 65535], np.uint16).reshape(2, 2, 2)
    ranged = RangedSource(Given(data), 10, 265)
    assert turned(ranged).ravel().tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    # 255 * v / 510 is v / 2: halves go to the even number.
    odd = np.array([1, 3, 5, 7], np.uint16).reshape(2, 2, 1)
    for dtype in ("uint16", "float64"):
        found = turned(RangedSource(Given(odd.astype(dtype)), 0, 510))
        assert found.ravel().tolist() == [0, 2, 2, 4]
    infinite = np.array([-np.inf, np.inf], np.float32).reshape(2, 1, 1)
    assert turned(RangedSource(Given(infinite), 0, 1)).ravel().tolist() == [0, 255]


def test_parts_are_parts_of_the_whole():
    data = np.random.default_rng(0).integers(0, 65536, (9, 8, 7), np.uint16)
    ranged = RangedSource(Given(data), 1000, 50000.5)
    whole = turned(ranged)
    np.testing.assert_array_equal(turned(ranged, 2, 5), whole[:, :, 2:5])
    np.testing.assert_array_equal(turned(ranged, 2, 5, row=3), whole[:, 3:, 2:5])


def test_blocks_of_any_size_make_the_whole(monkeypatch):
    data = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    whole = turned(RangedSource(Given(data), -1, 1))
    for size in (1, 20, 10**9):
        monkeypatch.setattr("cnapse.volumes.ranged._BLOCK", size)
        np.testing.assert_array_equal(turned(RangedSource(Given(data), -1, 1)), whole)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (
            5,
            5,
            (
                "--range 5 5: the first number, which becomes black, must be below the second: "
                "exchange them"
            ),
        ),
        (
            9,
            1.5,
            (
                "--range 9 1.5: the first number, which becomes black, must be below the second: "
                "exchange them"
            ),
        ),
        (np.nan, 5, "--range nan 5: give two numbers, as in --range 1000 40000"),
        (0, np.inf, "--range 0 inf: give two numbers, as in --range 1000 40000"),
        (-1e308, 1e308, "--range -1e+308 1e+308: give two numbers, as in --range 1000 40000"),
    ],
)
def test_ranges_that_are_none(low, high, message):
    with pytest.raises(ConfigError, match=says(message)):
        RangedSource(Given(np.zeros((2, 2, 2), np.uint16)), low, high)


def test_nan_is_in_no_range():
    data = np.zeros((4, 4, 6), np.float32)
    data[2, 3, 5] = np.nan
    message = "section 5 of given holds NaN, which is in no range: replace it by a number first"
    ranged = RangedSource(Given(data), 0, 1)
    turned(ranged, 0, 5)
    with pytest.raises(FormatError, match=says(message)):
        turned(ranged, 3)
    message = (
        "section 5 of given holds NaN or infinity, so no range can be measured: replace them by "
        "numbers first"
    )
    with pytest.raises(FormatError, match=says(message)):
        measure_range(Given(data))


# --- measured -----------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(["uint16", "int16", "uint32", "float32", "float64"]),
    shape=st.tuples(st.integers(4, 40), st.integers(4, 40), st.integers(1, 16)),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_the_measured_range_of_a_small_volume_is_that_of_all_its_values(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    data = (rng.gamma(2, 2000, shape) % 32000).astype(dtype)
    low, high = measure_range(Given(data))
    ordered = np.sort(data, axis=None).astype(float)
    at = 0.001 * (data.size - 1)
    expected = ordered[int(np.floor(at))], ordered[int(np.ceil(data.size - 1 - at))]
    tolerance = 1e-5 if np.dtype(dtype).kind == "f" else 0
    np.testing.assert_allclose((low, high), expected, rtol=tolerance, atol=tolerance)


def test_a_large_volume_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr("cnapse.volumes.ranged._PIXELS_OF_A_SECTION", 100)
    data = np.random.default_rng(0).integers(0, 10000, (90, 110, 46), np.uint16)
    source = Given(data)
    low, high = measure_range(source)
    assert source.asked == list(range(0, 46, 3))
    seen = data[::10, ::10, ::3]
    assert low == np.percentile(seen, 0.1, method="lower")
    assert high == np.percentile(seen, 99.9, method="higher")
    # Black padding counts.
    data[:, :5] = 0
    assert measure_range(source)[0] == 0


def test_no_range_can_be_measured():
    message = (
        "given is uint8 already, which needs no range: leave out --auto-range, or give --range LOW "
        "HIGH to stretch its contrast"
    )
    with pytest.raises(ConfigError, match=says(message)):
        measure_range(Given(np.zeros((3, 3, 3), np.uint8)))
    message = (
        "given has hardly another value than 7, so no range can be measured: give --range LOW HIGH"
    )
    with pytest.raises(FormatError, match=says(message)):
        measure_range(Given(np.full((3, 3, 3), 7, np.uint16)))


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command():
    import typer

    from cnapse_cli.ingest import ingest as command

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def stack(tmp_path):
    data = np.random.default_rng(0).normal(20000, 5000, (11, 33, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", data)
    return data


WHERE = ["--resolution", *RESOLUTION, "--chunk", 16, 16, 4]


def test_nothing_is_turned_unasked(tmp_path, command, stack):
    assert command(tmp_path / "in.tif", tmp_path / "out", *WHERE).exit_code == 0
    layer = open_layer(tmp_path / "out")
    np.testing.assert_array_equal(layer.read(layer.bounds), stack.T)


def test_an_explicit_range(tmp_path, command, stack, raw):
    result = command(tmp_path / "in.tif", tmp_path / "out", *WHERE, "--range", 12000, "3e4")
    assert result.exit_code == 0, result.output
    assert "image of uint8" in result.output
    expected = np.rint(np.clip((stack.T - 12000.0) * 255 / 18000, 0, 255))
    np.testing.assert_array_equal(raw.read(tmp_path / "out"), expected)


def test_a_measured_range_is_printed_and_can_be_repeated(tmp_path, command, stack, raw):
    measured = command(tmp_path / "in.tif", tmp_path / "a", *WHERE, "--auto-range")
    assert measured.exit_code == 0, measured.output
    low, high = measure_range(open_source(tmp_path / "in.tif"))
    line = f"measured range {low:.0f} to {high:.0f}; the same again: --range {low:.0f} {high:.0f}"
    assert line in measured.output.splitlines()
    again = command(tmp_path / "in.tif", tmp_path / "b", *WHERE, *line.split(": ")[1].split())
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(raw.read(tmp_path / "a"), raw.read(tmp_path / "b"))


def test_real_numbers_are_printed_as_they_are_used(tmp_path, command, raw):
    data = np.random.default_rng(0).normal(size=(7, 20, 30))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["main"] = data
    measured = command(tmp_path / "in.h5", tmp_path / "a", *WHERE, "--auto-range")
    assert measured.exit_code == 0, measured.output
    again = re.search("again: (--range .*)", measured.output).group(1).split()
    assert all(len(number) < 12 for number in again)
    assert command(tmp_path / "in.h5", tmp_path / "b", *WHERE, *again).exit_code == 0
    np.testing.assert_array_equal(raw.read(tmp_path / "a"), raw.read(tmp_path / "b"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--range", 1, 2, "--segmentation"],
            (
                "--range is for images, the ids of a segmentation must stay what they are: "
                "leave it out, or leave out --segmentation"
            ),
        ),
        (
            ["--auto-range", "--segmentation"],
            (
                "--auto-range is for images, the ids of a segmentation must stay what they are: "
                "leave it out, or leave out --segmentation"
            ),
        ),
        (
            ["--range", 1, 2, "--auto-range"],
            "--range and --auto-range exclude each other: leave one out",
        ),
        (
            ["--range", 2, 1],
            (
                "--range 2 1: the first number, which becomes black, must be below the second: "
                "exchange them"
            ),
        ),
        (["--range", "nan", 1], "--range nan 1: give two numbers, as in --range 1000 40000"),
    ],
)
def test_ranges_that_are_refused(tmp_path, command, stack, options, message):
    result = command(tmp_path / "in.tif", tmp_path / "out", *WHERE, *options)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [["auto", "20"], ["10", "20x"], ["", "1"]])
def test_a_range_of_words(tmp_path, command, stack, given):
    result = command(tmp_path / "in.tif", tmp_path / "out", *WHERE, "--range", *given)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        f"--range {' '.join(given)}: give two numbers, as in --range 1000 40000, or --auto-range "
        "to have it measured"
    )


def test_an_interrupted_ingest_with_another_range_is_another(tmp_path, command, stack, monkeypatch):
    source = open_source(tmp_path / "in.tif")
    options = [
        IngestOptions(resolution=RESOLUTION, value_range=given)
        for given in (None, (1000, 2000), (1000, 2001), "auto", measure_range(source))
    ]
    keys = [plan_ingest(source, tmp_path / "out", each).key for each in options]
    assert len(set(keys)) == 4
    # What was measured may go on with the range that was printed.
    assert keys[3] == keys[4]
    read_into = RangedSource.read_into

    def stop(self, out, start, row=0):
        if start == 8:
            raise KeyboardInterrupt
        read_into(self, out, start, row)

    with monkeypatch.context() as patched:
        patched.setattr(RangedSource, "read_into", stop)
        command(tmp_path / "in.tif", tmp_path / "out", *WHERE, "--range", 1000, 30000)
    note = json.loads((tmp_path / "out" / ".cnapse-ingest.json").read_text())
    assert note["slabs"] == 2
    other = command(tmp_path / "in.tif", tmp_path / "out", *WHERE, "--range", 1000, 30001)
    assert "an ingest of other files or options was begun here" in str(other.exception)
    assert (
        command(tmp_path / "in.tif", tmp_path / "out", *WHERE, "--range", 1000, 30000).exit_code
        == 0
    )
