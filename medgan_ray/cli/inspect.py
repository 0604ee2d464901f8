"""``medgan-ray inspect``: says what something is."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("URI", "medgan-ray inspect heads --grid heads.png")
def inspect(
    call: Call,
    *,
    grid: Annotated[str | None, typer.Option(metavar="PNG", help="Write a picture of its scans there.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read everything and compare it with its digests.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what a crash left over.")] = False,
) -> None:
    """Say what something is.

    URI is a scan, dataset, run, search or model.
    """
    (uri,) = call.paths()
    _ = call.settings
    from medgan_ray.verbs.inspect import inspect

    call.show.result(inspect(uri, grid, verify, sweep))
