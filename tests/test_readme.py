"""Commands that the README, the documentation and the verbs' own help show are commands that the program takes."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from medgan_ray.cli.main import VERBS, app
from medgan_ray.config import from_words, is_word
from medgan_ray.on_ray.settings import PlacedConfig

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = typer.main.get_command(app)


def _commands() -> list[str]:
    """Return the commands in fenced or indented blocks of the pages, and the examples of the verbs' help."""
    pages = [path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
    texts = [str(function.__doc__) for function in VERBS.values()]
    for page in pages:
        texts += re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        texts += re.findall(r"^    .+$", page, re.MULTILINE)
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if re.match(r"(\S+=\S+ )?(\S*/)?medgan-ray ", line)]


def _words(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    start = next(index for index, word in enumerate(words) if word.endswith("medgan-ray"))
    words = words[start + 1 :]
    if words[0] == "submit":  # what it submits is a command of its own
        words = words[next(index for index, word in enumerate(words) if word in VERBS and word != "submit") :]
    return words


@pytest.mark.parametrize("command", _commands())
def test_the_program_takes_it(command: str):
    for part in command.split(" && "):
        verb, *words = _words(part)
        context = PROGRAM.commands[verb].make_context(verb, words)
        given = context.params["words"] or []
        assert given
        PlacedConfig.parse(from_words(word for word in given if is_word(word)))


def test_there_are_commands_to_check():
    assert len(_commands()) >= 15


def test_the_tour_leads_to_files():
    paths = re.findall(r"^\d\. `(medgan_ray/[^`]+)`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(paths) == 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
