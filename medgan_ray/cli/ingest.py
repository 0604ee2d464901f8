"""``medgan-ray ingest``: scans to a dataset."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("SOURCE… DATASET", "medgan-ray ingest scans heads size=64 split.val=.2", placed=True)
def ingest(
    call: Call,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count only; write nothing.")] = False,
) -> None:
    """Turn scans into a dataset.

    SOURCE is a folder, a zip or tar, or an s3:// prefix of DICOM, NIfTI, NPZ, PNG, JPEG or TIFF files, or a
    DICOMweb service (dicomweb+https://HOST/PATH). Splits go by patient; a file that is not taken has a reason.
    """
    sources, dataset = call.paths()
    with call.show.progress("ingest", "files") as bar:
        if call.placed:
            from medgan_ray.on_ray import chores

            place = chores.Place(call.address, call.settings.ray.shared_paths)
            result = chores.ingest_scans(sources, dataset, call.config, bar.update, dry_run, place)
        else:
            from medgan_ray.verbs.ingest import ingest_scans

            result = ingest_scans(sources, dataset, call.local_config, bar.update, dry_run)
    call.show.result(result, "Counted; nothing was written." if dry_run else "Ingested.")
