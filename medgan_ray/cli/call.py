"""What all verbs share: their common options, and how paths are told apart from ``key=value``."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from medgan_ray.cli.show import Show
from medgan_ray.config import from_words, is_word, merge, read_yaml
from medgan_ray.errors import UsageError, nearest

if TYPE_CHECKING:
    from medgan_ray.on_ray.settings import PlacedConfig

MANY = "…"
_SETTINGS = "KEY=VALUE is any option that 'medgan-ray config show' lists, such as images=20000 or model.name=r3gan."


@dataclass(frozen=True)
class Call:
    """One use of a verb: its words, the configuration they make, and where it is to run."""

    usage: str
    words: tuple[str, ...]
    show: Show
    config_file: Path | None
    ray: bool
    address: str | None

    @functools.cached_property
    def _sorted(self) -> tuple[list[str], dict[str, Any]]:
        paths = [word for word in self.words if not self._is_setting(word)]
        over = from_words(word for word in self.words if self._is_setting(word))
        return paths, merge(read_yaml(self.config_file) if self.config_file else {}, over)

    @functools.cached_property
    def settings(self) -> "PlacedConfig":
        """The whole configuration of this call, checked: the file's keys with those of the command line on top."""
        from medgan_ray.on_ray.settings import PlacedConfig

        return PlacedConfig.parse(self._sorted[1], str(self.config_file or ""))

    @property
    def config(self) -> dict[str, Any]:
        """What of the configuration was given, nested; checked."""
        return self._sorted[1] if self.settings else {}

    @property
    def local_config(self) -> dict[str, Any]:
        """The same without what only matters to Ray, for a verb that runs in this process."""
        from medgan_ray.verbs.config import Config

        return {key: value for key, value in self.config.items() if key in Config.model_fields}

    @property
    def placed(self) -> bool:
        """Whether Ray places the work: ``--ray``, an address (RAY_ADDRESS too), or more than one worker."""
        return self.ray or bool(self.address) or self.settings.workers != 1

    def paths(self) -> list[Any]:
        """Return the paths in the order of ``usage``; the name that ends in … gets a list of one or more.

        Raises:
            UsageError: if there are too few or too many.
        """
        names, paths = self.usage.split(), self._sorted[0]
        wanted = [name for name in names if not name.startswith("[")]
        many = [index for index, name in enumerate(names) if name.rstrip("]").endswith(MANY)]
        if len(paths) < len(wanted):
            raise UsageError(f"{wanted[len(paths)].rstrip(MANY)} is missing", "", f"give {self.usage}; see --help")
        if len(paths) > len(names) and not many:
            raise UsageError(f"{paths[len(names)]!r} is one word too many", "", f"give {self.usage}; see --help")
        if not many:
            return [*paths, *[None] * (len(names) - len(paths))]
        first, after = many[0], len(names) - many[0] - 1
        end = len(paths) - after
        return [*paths[:first], paths[first:end], *paths[end:]]

    def _is_setting(self, word: str) -> bool:
        if not is_word(word):
            return False
        key = word.partition("=")[0].partition(".")[0]
        if key in known_keys():
            return True
        if Path(word).exists():
            return False
        raise UsageError(f"unknown key {key!r}", word, f"{nearest(key, known_keys())} (a path: ./{word})")


class VerbCommand(typer.core.TyperCommand):
    """A command whose usage line shows what its words are."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: paths, settings, options."""
        words = next(param for param in self.params if param.name == "words")
        return [str(words.metavar), "[KEY=VALUE]…", "[OPTIONS]"]


@functools.cache
def known_keys() -> frozenset[str]:
    """Return the first components that ``key=value`` may have."""
    from medgan_ray.on_ray.settings import PlacedConfig

    return frozenset(PlacedConfig.model_fields)


_COMMON: tuple[tuple[str, Any, Any], ...] = (
    ("config", Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of configuration.")], None),
    ("json", Annotated[bool, typer.Option("--json", help="Print one JSON object.")], False),
    ("quiet", Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")], False),
    ("debug", Annotated[bool, typer.Option("--debug", help="Show everything, tracebacks too.")], False),
)
_PLACED: tuple[tuple[str, Any, Any], ...] = (
    ("ray", Annotated[bool, typer.Option("--ray", help="Place the work by Ray even for one worker.")], False),
    (
        "address",
        Annotated[str | None, typer.Option(metavar="HOST:PORT", envvar="RAY_ADDRESS", help="Ray cluster to run on.")],
        None,
    ),
)


def verb(usage: str, example: str, *, placed: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes ``function(call, *, its options)`` a verb with the options all verbs have.

    Args:
        usage: the paths it takes, as its help shows them.
        example: a command that works, for ``--help``.
        placed: whether Ray can place it.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        words = typer.Argument(metavar=usage, hidden=True)
        shared = (("words", Annotated[list[str] | None, words], None), *_COMMON, *(_PLACED if placed else ()))

        @functools.wraps(function)
        def run(**given: Any) -> None:
            show = Show(given.pop("json"), given.pop("quiet"), given.pop("debug"))
            call = Call(
                usage=usage,
                words=tuple(given.pop("words") or ()),
                show=show,
                config_file=given.pop("config"),
                ray=given.pop("ray", False),
                address=given.pop("address", None),
            )
            with show.streams():
                function(call, **given)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, keyword, default=value, annotation=kind) for name, kind, value in shared]
        run.__signature__ = inspect.Signature([*parameters, *own])  # type: ignore[attr-defined]
        run.__annotations__ = {name: kind for name, kind, _ in shared} | {each.name: each.annotation for each in own}
        run.__doc__ = f"{inspect.getdoc(function)}\n\n{_SETTINGS}\n\n\b\nExample:\n  {example}"
        del run.__wrapped__
        return run

    return decorate
