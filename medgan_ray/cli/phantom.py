"""``medgan-ray phantom``: writes DICOM phantoms."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("OUT", "medgan-ray phantom scans --kind ct --patients 40 seed=1")
def phantom(
    call: Call,
    *,
    kind: Annotated[str, typer.Option(help="ct (head), ct_body, mr (head) or xray (chest).")] = "ct",
    patients: Annotated[int, typer.Option(help="How many patients; every other one has a lesion.")] = 40,
    slices: Annotated[int, typer.Option(help="Images a patient.")] = 8,
) -> None:
    """Write DICOM phantoms to try things out.

    OUT gets the files and a labels.csv. The configuration's seed and size (128 by default) are heeded.
    """
    (out,) = call.paths()
    chosen = call.settings
    from medgan_ray.verbs.phantom import make_phantoms

    side = chosen.size[0] if chosen.size else 128
    made = make_phantoms(out, kind=kind, patients=patients, slices=slices, size=side, seed=chosen.seed)
    call.show.result(made, "Phantoms written.")
