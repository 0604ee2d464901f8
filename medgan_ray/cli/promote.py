"""``medgan-ray promote``: another version becomes the current one."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("VERSION", "medgan-ray promote registry/heads@2")
def promote(
    call: Call,
    *,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Goes into the history.")] = "",
) -> None:
    """Make a version the current one.

    VERSION is REGISTRY/NAME@N; an older one rolls back. When and why stands in current.json.
    """
    (version,) = call.paths()
    _ = call.settings
    from medgan_ray.verbs.promote import promote_version

    call.show.result(promote_version(version, why), "Promoted.")
