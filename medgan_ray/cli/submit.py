"""``medgan-ray submit``: the same verb as a job on a Ray cluster."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb

CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What stands before the verb is for submit, what follows is for the verb."""


@verb(
    "VERB…", "medgan-ray submit --address 10.0.0.5:8265 train s3://bucket/heads s3://bucket/run workers=8", placed=True
)
def submit(
    call: Call,
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the job running and say how to follow it.")] = False,
) -> None:
    """Run a verb as a job on a cluster.

    Options of submit stand before the verb. Its log is followed and its exit code handed back; Ctrl-C leaves the job
    running and says how to follow it.
    """
    from medgan_ray.on_ray.submit import submit as on_ray

    code = on_ray(list(call.words), call.address, detach)
    if call.show.as_json:
        call.show.result({"exit_code": code})
    if code:
        raise typer.Exit(code)
