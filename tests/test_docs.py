"""Code in the README and in docs/ does what it says: blocks are run as they stand, or checked where they can't be.

A fenced block of ``python`` or ``bash`` is run, all of a page in one folder, in order. A line ``<!-- not run: WHY -->``
above a block that needs a cluster, real scans or hours leaves it to be checked: commands must parse with their options
and keys (tests/test_readme.py), imports must resolve, calls must fit what they call. Links must lead somewhere, and
a linked name must be defined in the file that it leads to.
"""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medgan_ray.cli.main import VERBS, main
from medgan_ray.config import expand
from medgan_ray.on_ray.settings import PlacedConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE_RUN = {"adding-a-model.md"}
"""Pages that a test of their own runs: tests/models/test_adding_a_model.py installs what the page writes."""
MARK = re.compile(r"<!-- not run: (\S.*) -->")
ELSEWHERE = {"export", "make"}
"""What may stand in a block that isn't run, beside medgan-ray itself."""
SHOWN = {"mermaid", "text", "promql", "yaml", "toml"}


class Block(NamedTuple):
    """A fenced block: its page, line, language, text, and why it isn't run (empty if it is)."""

    page: Path
    line: int
    language: str
    text: str
    why: str


def _blocks() -> list[Block]:
    found = []
    for page in (page for page in PAGES if page.name not in ELSEWHERE_RUN):
        lines = page.read_text("utf-8").splitlines()
        fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
        assert len(fences) % 2 == 0, f"{page.name} has a fence without an end"
        for first, last in zip(fences[::2], fences[1::2], strict=True):
            above = next((line for line in reversed(lines[:first]) if line.strip()), "")
            mark = MARK.fullmatch(above.strip())
            text = "\n".join(lines[first + 1 : last]) + "\n"
            found.append(Block(page, first + 2, lines[first].strip()[3:], text, mark[1] if mark else ""))
    return found


BLOCKS = _blocks()
CODE = [block for block in BLOCKS if block.language in ("python", "bash")]


def _named(block: Block) -> str:
    return f"{block.page.name}:{block.line}"


def _commands(block: Block) -> list[list[str]]:
    """Return the words of each command of a bash block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def test_every_block_is_run_checked_or_shown():
    unknown = {_named(block): block.language for block in BLOCKS if block not in CODE and block.language not in SHOWN}
    assert not unknown, f"neither run nor checked: {unknown}"
    assert sum(not block.why for block in CODE) >= 3, "nothing is run any more"


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in CODE if not block.why}), ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in CODE:
        if block.page != page or block.why:
            continue
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            exec(code, names)  # noqa: S102 - our own documentation
            continue
        for program, *words in _commands(block):
            assert program == "medgan-ray", f"{_named(block)}: mark it, or leave out {program!r}"
            assert main([*words, "-q"]) == 0, f"{_named(block)}: {' '.join(words)}"


@pytest.mark.parametrize("block", [block for block in CODE if block.why and block.language == "bash"], ids=_named)
def test_a_block_that_is_not_run_has_known_commands(block: Block):
    """That their options and keys parse is what tests/test_readme.py asserts of every command on every page."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    commands = _commands(block)
    assert commands
    for words in commands:
        program, *rest = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        assert program in ELSEWHERE or program.rpartition("/")[2] == "medgan-ray", f"unknown command {program}"
        if program == "make":
            assert rest[0] in targets
        elif program != "export":
            assert rest[0] in VERBS


@pytest.mark.parametrize("block", [block for block in CODE if block.why and block.language == "python"], ids=_named)
def test_a_block_that_is_not_run_fits_what_it_calls(block: Block):
    tree = ast.parse(block.text)
    names = _imported(tree)
    assert names
    calls = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (called := _resolved(node.func, names)) is None:
            continue
        keywords = {word.arg: None for word in node.keywords if word.arg}
        inspect.signature(called).bind(*[None] * len(node.args), **keywords)
        calls += 1
        for word in node.keywords:
            if word.arg == "config" and isinstance(word.value, ast.Dict):
                PlacedConfig.parse(expand(ast.literal_eval(word.value)))
    assert calls


def _imported(tree: ast.Module) -> dict[str, Any]:
    """Return what a block's imports of this package give."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name: importlib.import_module(each.name) for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            names |= {each.asname or each.name: getattr(module, each.name) for each in node.names}
    return names


def _resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return what a dotted name stands for, None if it isn't an imported one; AttributeError if it isn't there."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, names)
        return None if owner is None else getattr(owner, node.attr)
    return None


def _links(page: Path) -> list[tuple[str, str]]:
    """Return text and target of each link of a page that leads to a file."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    found = re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose)
    return [(text, target) for text, target in found if "://" not in target]


LINKS = [(page, *link) for page in PAGES for link in _links(page)]


def test_links_lead_somewhere():
    broken = []
    for page, text, target in LINKS:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        anchors = _anchors(file) if file.suffix == ".md" and anchor else {anchor}
        if not file.exists() or anchor not in anchors:
            broken.append((page.name, text, target))
    assert not broken


def test_linked_names_are_defined_where_the_link_leads():
    named = [
        (page.parent / target, text.strip("`").removesuffix("()"))
        for page, text, target in LINKS
        if target.endswith(".py") and re.fullmatch(r"`[A-Za-z_.]+(\(\))?`", text) and not text.endswith(".py`")
    ]
    missing = [(path.name, name) for path, name in named if name.rpartition(".")[2] not in _defined(path)]
    assert not missing
    assert len(named) >= 30, "docs/how-it-works.md links its names to the code"


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _defined(path: Path) -> set[str]:
    """Return the names of functions, classes, methods, constants and fields that a file defines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found
