"""``medgan-ray serve``: models over HTTP."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb
from medgan_ray.config import merge


@verb("MODEL…", "MEDGAN_API_KEYS=secret medgan-ray serve runs/1 --port 8000", placed=True)
def serve(
    call: Call,
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on; other than loopback needs keys.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Ask for no key; on loopback only.")] = False,
    write_config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write Ray Serve's YAML there and serve nothing.")
    ] = None,
) -> None:
    """Serve models over HTTP.

    MODEL is a run, a search (its winner) or a published version. Keys come from MEDGAN_API_KEYS or serve.keys_file.
    """
    (models,) = call.paths()
    flags = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    config = merge(call.config, {"serve": flags} if flags else {})
    from medgan_ray.on_ray import serve as on_ray

    def ready(url: str) -> None:
        call.show.result({"url": url}, "Serving; Ctrl-C ends it.")

    on_ray.serve(models, config, call.address, no_auth=no_auth, write_config=write_config, ready=ready)
    if write_config:
        call.show.result({"config": write_config}, f"Written: serve deploy {write_config}")
