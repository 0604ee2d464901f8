"""The verb ``withdraw``: a patient takes consent back.

medgan-ray withdraw heads --subjects-from ids.txt --purge
"""

import sys
from pathlib import Path

from medgan_ray.errors import InputError
from medgan_ray.ingest.withdraw import WithdrawResult, withdraw

LIST_BYTES = 16 * 2**20


def withdraw_subjects(dataset: str, subjects_from: str, purge: bool = False) -> WithdrawResult:
    """Take subjects out of a dataset.

    Args:
        dataset: a path or s3:// prefix.
        subjects_from: a file with one id a line (as in the DICOM headers, or groups of labels.csv), or ``-`` for
            standard input: a command line is seen by everybody on a machine.
        purge: also delete the old manifests, shards, caches, report and thumbnails.

    Raises:
        InputError: if the list is unusable, no id is known, or the dataset is missing or corrupt.
        UsageError: if the key is missing or not the dataset's.
        StoreError: if a store fails, or another writer finished first.
    """
    return withdraw(dataset, read_ids(subjects_from), purge)


def read_ids(subjects_from: str) -> list[str]:
    """Return the ids that a file or standard input lists, each once; empty lines don't count.

    Raises:
        InputError: if there are none, or they can't be read. Its text never holds an id.
    """
    where = "standard input" if subjects_from == "-" else subjects_from
    try:
        if subjects_from == "-":
            data = sys.stdin.buffer.read(LIST_BYTES + 1)
        else:
            with Path(subjects_from).expanduser().open("rb") as file:
                data = file.read(LIST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError("cannot read the list of ids", where, error.strerror or "check the path") from None
    except UnicodeDecodeError:
        raise InputError("the list of ids is not text", where, "write one id a line, UTF-8") from None
    if len(data) > LIST_BYTES:
        raise InputError("the list of ids is too long", where, f"at most {LIST_BYTES >> 20} MiB at a time")
    ids = list(dict.fromkeys(line.strip() for line in text.split("\n") if line.strip()))
    if not ids:
        raise InputError("the list of ids is empty", where, "write one id a line")
    return ids
