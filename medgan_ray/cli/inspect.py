"""``medgan-ray inspect``: says what something is."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb
from medgan_ray.errors import UsageError


@verb("URI [RUN…]", "medgan-ray inspect heads --grid heads.png")
def inspect(
    call: Call,
    *,
    grid: Annotated[str | None, typer.Option(metavar="PNG", help="Write a picture of its scans there.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read everything and compare it with its digests.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what a crash left over.")] = False,
    runs: Annotated[
        list[str] | None, typer.Option(metavar="URI…", help="Of these runs and models, name those trained with it.")
    ] = None,
) -> None:
    """Say what something is.

    URI is a scan, dataset, run, search or model. With --runs, more runs and models may follow the first.
    """
    uri, more = call.paths()
    _ = call.settings
    if more and not runs:
        raise UsageError(f"{more[0]!r} is one word too many", "", "give one URI, or --runs and several; see --help")
    from medgan_ray.cli.pages import print_page
    from medgan_ray.verbs.inspect import inspect, told

    found = inspect(uri, grid, verify, sweep, [*(runs or ()), *more])
    page = None if call.show.as_json else told(found)
    if page:
        print_page(call.show, page)
        found = {key: found[key] for key in ("verified", "swept", "runs") if key in found}
    trained = found["runs"] if runs and not call.show.as_json else []
    call.show.result({**found, "runs": f"{len(trained)} of these"} if trained else found)
    if trained:
        rows = [(each["uri"], each["kind"], each["manifest"][:12], each["withdrawn"]) for each in trained]
        call.show.table(("trained with it", "kind", "manifest", "held withdrawn subjects"), rows)
