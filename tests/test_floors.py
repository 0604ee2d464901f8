"""The laws of the house that a program can see: who imports what, first lines, sizes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medgan_ray"
FILES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 50, 8


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_file_keeps_the_laws(path: Path):
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    roots = {module.split(".")[0] for module in _imports(tree)}
    assert "ray" not in roots or "on_ray" in path.parts, "only on_ray imports Ray"
    assert not roots & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}, "nothing is unpickled"
    assert ast.get_docstring(tree), "the first line says what the file is for"
    assert source.count("\n") <= FILE_LINES, "a file does one thing"
    for function in _functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= FUNCTION_LINES, f"{function.name} doesn't fit on a screen"
        arguments = function.args
        count = len(arguments.args) + len(arguments.kwonlyargs) + len(arguments.posonlyargs)
        assert count <= ARGUMENTS, f"{function.name} takes {count} arguments"


@pytest.mark.parametrize("room", ["verbs", "cli"])
def test_every_room_is_a_package(room: str):
    assert (PACKAGE / room / "__init__.py").exists()


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
