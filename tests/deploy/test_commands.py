"""Every `cnapse` command line in deploy/ and its docs goes through the parser of options."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from cnapse_cli.main import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def parse(words):
    """Parse a command line as `cnapse` would, without doing anything; its options."""
    command = typer.main.get_command(app)
    context = command.make_context("cnapse", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        try:
            context = command.make_context(name, rest, parent=context)
        except typer.Exit:
            # An option that does its work at once, as --help does: the line was understood.
            return {}
    return context.params


def in_text(path):
    """Command lines of a shell script, or of the blocks of shell in a page."""
    text = path.read_text()
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    text = text.replace("\\\n", " ").replace('"${CNAPSE:-cnapse}"', "cnapse").replace(' "$@"', "")
    for line in text.splitlines():
        found = re.match(r"\s*(?:exec |srun )?cnapse (?!run --rm)(.*)", line)
        if found and not line.lstrip().startswith("#"):
            # What the shell would put in: numbers.
            known = re.sub(
                r'"?\$\{?(\w+)[^}"\s]*\}?"?', "4", found[1].replace('"fq://$queue"', "fq://q")
            )
            yield [word for word in shlex.split(known, comments=True) if word != "&"]


def test_the_parser_finds_what_is_wrong() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["worker", "fq://q", "--no-such-option"])
    with pytest.raises(Exception, match="Missing parameter: url"):
        parse(["worker"])


def test_command_lines_of_pods(deploy) -> None:
    (run,) = [c["args"] for c in deploy.containers() if c["args"][0] == "run"]
    added = [op["value"] for op in deploy.patches() if op["path"].endswith("/args/-")]
    lines = [[*run, *added], *(c["args"] for c in deploy.containers())]
    parsed = [parse(line) for line in lines]
    assert parsed[0]["gpu_queue"] == "$(CNAPSE_GPU_QUEUE)"
    assert len(lines) == 6


def test_command_lines_of_compose(deploy) -> None:
    lines = []
    for service in deploy.compose["services"].values():
        if "entrypoint" in service:
            (script,) = service["command"]
            found = re.findall(r"^(?:exec )?cnapse (.*)$", script, re.MULTILINE)
            lines += [shlex.split(line) for line in found]
        elif service["image"].startswith("cnapse:"):
            lines.append(service["command"])
    assert {line[0] for line in lines} == {"queue", "worker", "run", "phantom", "view"}
    for line in lines:
        parse(line)


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("deploy/slurm/driver.sbatch", 1),
        ("deploy/slurm/workers.sbatch", 1),
        ("docs/cluster.md", 10),
    ],
)
def test_command_lines_of_scripts_and_the_page(path, count) -> None:
    lines = list(in_text(ROOT / path))
    assert len(lines) >= count
    for line in lines:
        parse(line)
