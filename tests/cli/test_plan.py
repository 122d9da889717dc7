"""`cnapse plan`, as a user sees it."""

import json
import tomllib

import pytest

from cnapse_tasks.planning.prices import default_text
from cnapse_tasks.planning.tissue import USUAL


@pytest.fixture
def config(tissue, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "cnapse.toml"
    file.write_text(
        'output = "run"\nresolution = [4, 4, 50]\nblock = [64, 64, 8]\n[layers]\n'
        f'probability = "{tissue.folder}/probability"\ncells = "{tissue.folder}/cells"\n'
    )
    return file


def test_the_table_fits_a_terminal_and_says_what_it_assumes(cnapse, config) -> None:
    code, out, err = cnapse("plan", config, "--workers", 3)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert max(map(len, lines)) <= 100
    header = next(line for line in lines if line.startswith("stage"))
    rows = lines[lines.index(header) + 1 :]
    assert rows[0].split()[:3] == ["label", "18", "371k"]
    assert any(line.startswith("total") for line in rows)
    for word in ("EXAMPLE prices", "with 3 workers", "--calibrate", "--density", "not counted"):
        assert word in out


def test_json_has_every_number(cnapse, config) -> None:
    code, out, _ = cnapse("plan", config, "--json", "--density", 3)
    found = json.loads(out)
    assert code == 0
    assert found["stages"][0]["stage"] == "label"
    assert found["stages"][0]["requests"]["get"] > 18
    assert found["synapses"]["low"] == found["synapses"]["high"]
    assert found["tissue"]["density_um3"] == 3
    assert found["prices"]["example"] is True


def test_own_prices_are_taken(cnapse, config, tmp_path) -> None:
    code, out, _ = cnapse("plan", "--print-prices")
    assert code == 0
    assert out == default_text()
    table = tmp_path / "prices.toml"
    table.write_text(
        out.replace("example = true", "example = false").replace("2026-11-23", "2031-01-02")
    )
    assert tomllib.loads(table.read_text())["as_of"] == "2031-01-02"
    code, out, _ = cnapse("plan", config, "--prices", table)
    assert code == 0
    assert "prices of 2031-01-02" in out
    assert "EXAMPLE" not in out


def test_a_calibration_is_used_from_then_on(cnapse, config) -> None:
    code, out, err = cnapse("plan", config, "--calibrate", "--seconds", 1)
    assert code == 0
    assert "measuring label\n" in err
    assert "speed: measured on" in out
    code, again, _ = cnapse("plan", config)
    assert code == 0
    assert again == out


def test_the_usual_density_without_any_measurement(cnapse, config) -> None:
    _, out, _ = cnapse("plan", config)
    assert f"density: {USUAL.density_um3:g} synapses per um3 (0.5 to 2), assumed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.toml"], "cnapse: nowhere.toml: no such configuration file"),
        (["{config}", "--density", "0"], "cnapse: --density 0: must be above 0"),
        (["{config}", "--prices", "none.toml"], "cnapse: none.toml: no such price table"),
        (["{config}", "--prices", "{bad}"], "cnapse: {bad}: key 'as_of' is missing"),
    ],
)
def test_mistakes_are_one_line(cnapse, config, tmp_path, arguments, message) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[cpu]\n")
    given = [word.format(config=config, bad=bad) for word in arguments]
    code, _, err = cnapse("plan", *given)
    assert code == 1
    assert err.strip() == message.format(bad=bad)


def test_a_layer_that_is_not_there_is_named(cnapse, config) -> None:
    config.write_text(config.read_text().replace("/probability", "/missing"))
    code, _, err = cnapse("plan", config)
    assert code == 1
    assert "missing: no such layer" in err
    assert len(err.strip().splitlines()) == 1
