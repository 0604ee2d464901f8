"""``medgan-ray withdraw``: a patient takes consent back."""

from typing import Annotated

import typer

from medgan_ray.cli.call import Call, verb


@verb("DATASET", "medgan-ray withdraw heads --subjects-from ids.txt")
def withdraw(
    call: Call,
    *,
    subjects_from: Annotated[
        str, typer.Option(metavar="FILE", help="Patient ids or groups, one a line; - reads standard input.")
    ],
    purge: Annotated[bool, typer.Option("--purge", help="Delete what held them: old shards, caches, report.")] = False,
) -> None:
    """Take patients out of a dataset.

    Shards that hold them are rewritten and a new manifest is made; older ones stay readable without --purge. Ids are
    never given on the command line.
    """
    (dataset,) = call.paths()
    _ = call.settings
    from medgan_ray.verbs.withdraw import withdraw_subjects

    call.show.result(withdraw_subjects(dataset, subjects_from, purge), "Withdrawn.")
