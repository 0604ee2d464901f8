"""``medgan-ray generate``: a model in, scans out."""

from typing import Annotated, Any

import typer

from medgan_ray.cli.call import Call, verb


@verb("MODEL OUT", "medgan-ray generate runs/1 scans -n 16 --seed 1 --format dicom", placed=True)
def generate(
    call: Call,
    *,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 16,
    label: Annotated[str | None, typer.Option(help="One of the model's classes; by default as in training.")] = None,
    seed: Annotated[int, typer.Option(help="Names the scans: n = 4 is a prefix of n = 16.")] = 0,
    form: Annotated[str, typer.Option("--format", help="png, npz, dicom or dataset.")] = "png",
    truncation: Annotated[
        float | None, typer.Option(help="0 to 1: less is surer and less varied; stylegan2 alone has it.")
    ] = None,
) -> None:
    """Write generated scans.

    MODEL is a run, a search (its winner) or REGISTRY/NAME[@N]; OUT a folder or s3:// prefix, or with --format dataset
    a new dataset, marked as synthetic. workers=N makes N parts at a time on Ray. The same command goes on where it
    was cut off.
    """
    model, out = call.paths()
    asked: dict[str, Any] = {"n": n, "label": label, "seed": seed, "form": form, "truncation": truncation}
    with call.show.progress("generate", "scans") as bar:
        if call.placed:
            from medgan_ray.on_ray import chores

            place = chores.Place(call.address, call.settings.ray.shared_paths)
            result = chores.generate_scans(model, out, bar.update, place, call.config, **asked)
        else:
            from medgan_ray.verbs.generate import generate_scans

            result = generate_scans(model, out, progress=bar.update, **asked)
    call.show.result(result, "Generated.")
