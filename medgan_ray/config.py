"""The mechanics of configuration: frozen sections, ``key=value`` words, YAML files, schema.

Sections stand beside their components (``ModelSettings`` in ``models/catalog.py``) and are composed in
``verbs/config.py``; this file knows none of them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml

from medgan_ray.errors import InputError, UsageError, nearest

_WORD = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*=")


class Section(pydantic.BaseModel):
    """A frozen part of the configuration; an attribute docstring is the option's one-line help."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Return the section that ``values`` (nested dictionaries) describe.

        Raises:
            UsageError: for an unknown key (with the nearest known one) or a value out of range.
        """
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise _as_usage_error(error, cls, where) from None


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object that bytes hold.

    Raises:
        InputError: naming ``where``, if they hold none.
    """
    try:
        values = json.loads(data)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InputError("not a JSON object", where, "restore it, or make it again")
    return values


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: frozenset[str] = frozenset(), prefix: str = ""
) -> set[str]:
    """Return the dotted keys in which two nested dictionaries differ, those in ``free`` left out."""
    found: set[str] = set()
    for key in old.keys() | new.keys():
        if f"{prefix}{key}" in free:
            continue
        mine, theirs = old.get(key), new.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found |= differences(mine, theirs, free, f"{prefix}{key}.")
        elif mine != theirs:
            found.add(f"{prefix}{key}")
    return found


class _SafeLoader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number, as YAML 1.2 does."""


_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def is_word(argument: str) -> bool:
    """Say whether a command-line argument looks like ``dotted.key=value``."""
    return _WORD.match(argument) is not None


def from_words(words: Iterable[str]) -> dict[str, Any]:
    """Return nested dictionaries for ``dotted.key=value`` words with YAML values."""
    values: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        set_dotted(values, key, parse_yaml(text, where=word))
    return values


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.c`` in nested dictionaries, making those that are missing."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UsageError(f"{parent!r} is not a section", key, "give the whole section or its keys, not both")
    values[last] = value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries for a mapping whose keys may be dotted."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        inner = expand(value) if isinstance(value, Mapping) else value
        branch: dict[str, Any] = {}
        set_dotted(branch, key, inner)
        nested = merge(nested, branch)
    return nested


def parse_yaml(text: str, where: str) -> Any:
    """Return what safe YAML ``text`` holds.

    Raises:
        UsageError: if it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_SafeLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise UsageError("not YAML", where, str(error)) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        InputError: if the file is missing.
        UsageError: if it holds no mapping.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read the configuration", str(path), _reason(error)) from None
    values = parse_yaml(text, where=str(path))
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError("not a mapping of keys to values", str(path), "write one 'key: value' a line")
    return expand(values)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _as_usage_error(error: pydantic.ValidationError, cls: type[pydantic.BaseModel], where: str) -> UsageError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return UsageError(f"unknown key {key!r}", where, nearest(path[-1], _keys_at(cls, path[:-1])))
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{key}={first['input']!r}" if key else "configuration", where, message)


def _keys_at(cls: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    for name in path:
        inner = cls.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, pydantic.BaseModel)):
            break
        cls = inner
    return list(cls.model_fields)
