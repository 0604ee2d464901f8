"""``medgan-ray config``: shows, describes and checks the configuration."""

import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from medgan_ray.cli.call import Call, verb
from medgan_ray.errors import UsageError, nearest

ACTIONS = ("show", "schema", "check")


@verb("show|schema|check", "medgan-ray config show model.name=r3gan")
def config(call: Call) -> None:
    """Show or check the configuration.

    show prints every option with its value, schema the JSON schema, check only looks for mistakes.
    """
    (action,) = call.paths()
    if action not in ACTIONS:
        raise UsageError(f"config {action!r}", "", nearest(action, ACTIONS))
    chosen = call.settings
    if action == "show":
        for line in described(chosen):
            call.show.line(line)
        if call.show.as_json:
            call.show.result(chosen)
    elif action == "schema":
        call.show.as_json = True
        call.show.result(type(chosen).model_json_schema())
    else:
        call.show.result({"valid": True}, "The configuration is valid.")


def described(section: pydantic.BaseModel, indent: str = "") -> Iterator[str]:
    """Yield a section as YAML, each option under its one-line help."""
    fields = type(section).model_fields
    for name, field in sorted(fields.items(), key=lambda item: _is_section(getattr(section, item[0]))):
        value: Any = getattr(section, name)
        if field.description:
            yield f"{indent}# {' '.join(field.description.split())}"
        if _is_section(value):
            yield f"{indent}{name}:"
            yield from described(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_yaml(value)}"


def _is_section(value: object) -> typing.TypeGuard[pydantic.BaseModel]:
    return isinstance(value, pydantic.BaseModel)


def _yaml(value: object) -> str:
    import yaml

    text: str = yaml.safe_dump(_simple(value), default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _simple(value: object) -> Any:
    from medgan_ray.cli.show import plain

    return plain(value)
