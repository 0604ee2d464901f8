"""``medgan-ray demo``: the whole chain, small."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb
from medgan_ray.cli.show import note


@verb("[OUT]", "medgan-ray demo out/demo --scans my/scans", placed=True)
def demo(
    call: Call,
    *,
    scans: Annotated[str | None, typer.Option(metavar="SOURCE", help="Real scans in place of phantoms.")] = None,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Without Ray: no search, no service.")] = False,
) -> None:
    """Walk the whole way, small.

    Phantoms (or --scans) are ingested; a generator is trained, searched for, sampled and served. Ends with a summary
    and OUT/report.html; OUT is out/demo where none is given.
    """
    out = call.paths()[0] or "out/demo"
    say = (lambda text: None) if call.show.quiet else note
    with call.show.progress("demo", "images") as bar:
        if no_ray:
            from medgan_ray.verbs.demo import demo

            result = demo(out, scans, call.local_config, say=say, progress=bar.update)
        else:
            from medgan_ray.on_ray.demo import demo as placed_demo

            result = placed_demo(out, scans, call.config, say=say, progress=bar.update, address=call.address)
    for line in result.summary:
        call.show.line(line)
    if call.show.as_json:
        call.show.result(result)
