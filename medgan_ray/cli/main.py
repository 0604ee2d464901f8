"""The command ``medgan-ray``: finds the verb, and turns every way of failing into one line and an exit code.

medgan-ray demo out
medgan-ray ingest SCANS DATASET && medgan-ray train DATASET RUN
"""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from medgan_ray.cli import (
    config,
    demo,
    evaluate,
    generate,
    ingest,
    inspect,
    phantom,
    promote,
    publish,
    recognize,
    serve,
    show,
    submit,
    train,
    tune,
    withdraw,
)
from medgan_ray.cli.call import VerbCommand
from medgan_ray.errors import Interrupted, MedganError, nearest

BUG = "this is a bug: please report it with the command; --debug shows more"

app = typer.Typer(
    name="medgan-ray",
    help="Medical-image GANs on Ray: scans in, a trained and checked generator served.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
)
VERBS = {
    "demo": demo.demo,
    "phantom": phantom.phantom,
    "ingest": ingest.ingest,
    "withdraw": withdraw.withdraw,
    "inspect": inspect.inspect,
    "train": train.train,
    "tune": tune.tune,
    "generate": generate.generate,
    "recognize": recognize.recognize,
    "evaluate": evaluate.evaluate,
    "publish": publish.publish,
    "promote": promote.promote,
    "serve": serve.serve,
    "submit": submit.submit,
    "config": config.config,
}
for _name, _function in VERBS.items():
    _more = submit.CONTEXT if _name == "submit" else {}
    app.command(_name, cls=VerbCommand, context_settings=_more)(_function)


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    if version:
        from medgan_ray import __version__

        sys.stdout.write(f"medgan-ray {__version__}\n")
    elif context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``errors.py``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
    except MedganError as error:
        return _fail(error, str(error), error.exit_code, words)
    except TyperException as error:
        return _fail(error, _misuse(error, words), 2, words)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _fail(error, str(Interrupted("interrupted", "", "what was committed is kept")), 130, words)
    except Exception as error:
        what = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        return _fail(error, f"{what} ({BUG})", MedganError.exit_code, words)
    return code


def _run(words: list[str]) -> int:
    code = app(words, prog_name="medgan-ray", standalone_mode=False)
    if code == Interrupted.exit_code:  # the parser has turned Ctrl-C into a code
        raise KeyboardInterrupt
    return int(code or 0)


def _fail(error: BaseException, line: str, code: int, words: list[str]) -> int:
    if "--debug" in words:
        traceback.print_exception(error)
    show.note(f"error: {line}")
    return code


def _misuse(error: TyperException, words: list[str]) -> str:
    first = next((word for word in words if not word.startswith("-")), "")
    if first and first not in VERBS:
        return f"unknown verb {first!r}: {nearest(first, VERBS)}"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}: see medgan-ray {first} --help".replace("  ", " ")
