"""``medgan-ray publish``: a run's best model into a registry."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("RUN MODEL", "medgan-ray publish runs/1 registry/heads publish.license=apache-2.0")
def publish(
    call: Call,
    *,
    force: Annotated[bool, typer.Option("--force", help="Publish although the gate refuses; needs --why.")] = False,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason, shown wherever the model is served.")] = "",
) -> None:
    """Publish a run's best model.

    MODEL is REGISTRY/NAME, a folder or s3:// prefix. The newest evaluation of the run's best weights must have passed
    the gate; otherwise the exit code is 3 and the rules that were not kept are named.
    """
    run, model = call.paths()
    from medgan_ray.verbs.publish import publish_run

    call.show.result(publish_run(run, model, call.local_config, force=force, why=why), "Published.")
