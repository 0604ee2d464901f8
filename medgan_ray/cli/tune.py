"""``medgan-ray tune``: searches for the best configuration."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb
from medgan_ray.cli.show import TerminalHost


@verb("DATASET RUNS", "medgan-ray tune heads search --space search_spaces/quick.yaml", placed=True)
def tune(
    call: Call,
    *,
    space: Annotated[str, typer.Option(metavar="YAML", help="The search space.", show_default=False)],
) -> None:
    """Search for the best settings.

    Every trial is a run in RUNS. The same command goes on where it stopped.
    """
    dataset, runs = call.paths()
    from medgan_ray.on_ray import tune as on_ray

    with call.show.progress("tune", "images") as bar:
        found = on_ray.tune(dataset, runs, space, call.config, call.address, TerminalHost(bar))
    if call.show.as_json:
        call.show.result(found)
        return
    columns = list(dict.fromkeys(name for trial in found.trials for name in trial))
    call.show.table(columns, [[trial.get(column, "") for column in columns] for trial in found.trials])
    call.show.line(f"Best: {found.best}")
