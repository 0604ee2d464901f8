"""Claim: of 178 DICOM files of many makers each is read or refused by name, and read as other readers do.

    python benchmarks/corpus.py ../shared/data/dicom_corpus

Prints what ingest takes and refuses, by reason, with its default options and with all that can be taken; how the hashes
of the stored values compare with those of index.csv; each file that differs from it, and why; and the time it took.
"""

import argparse
import csv
import time
from collections import Counter
from pathlib import Path

from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import Outcome, Source, decode

LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
"""JPEG that right decoders read with a difference of one."""

Row = dict[str, str]


def main() -> None:
    """Read all files three times and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("corpus", type=Path, nargs="?", default=Path("../shared/data/dicom_corpus"))
    words.add_argument("--workers", type=int, default=2)
    given = words.parse_args()
    with (given.corpus / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    sources = [Source(row["file"], path=str(given.corpus / row["file"])) for row in rows]
    everything = {"luma": True, "secondary": True, "derived": True}
    ways = {"default": Options(), "everything": Options(**everything), "looking": Options(inspect=True, **everything)}
    outcomes: dict[str, list[Outcome]] = {}
    for name, options in ways.items():
        begun = time.monotonic()
        outcomes[name] = list(decode(sources, given.workers, options=options))
        spent = time.monotonic() - begun
        slowest = max(outcomes[name], key=lambda outcome: outcome.seconds)
        print(f"{name}: {len(sources)} files in {spent:.1f} s with {given.workers} processes;", end=" ")
        print(f"the slowest {slowest.seconds:.2f} s ({slowest.source.name})")
    _show_reasons(outcomes["default"], outcomes["everything"])
    _show_hashes(rows, outcomes["looking"])


def _show_reasons(default: list[Outcome], everything: list[Outcome]) -> None:
    counts = [Counter(outcome.refusal or "taken" for outcome in way) for way in (default, everything)]
    print(f"\n{'':>20} {'default':>8} {'all on':>8}")
    for reason in sorted({*counts[0], *counts[1]}, key=lambda reason: -counts[0][reason]):
        print(f"{reason:>20} {counts[0][reason]:>8} {counts[1][reason]:>8}")


def _show_hashes(rows: list[Row], looked: list[Outcome]) -> None:
    table: Counter[tuple[str, str]] = Counter()
    lines = []
    for row, outcome in zip(rows, looked, strict=True):
        result = _compared(row, outcome)
        table[row["agree"], result] += 1
        if result not in ("equal", "no pixels in either"):
            said = outcome.refusal or (outcome.facts.verdict if outcome.facts else "")
            why = [said and f"{said} {outcome.detail}".strip(), row["readers_note"], row["pydicom_error"]]
            text = "; ".join(filter(None, why))
            lines.append(f"  {row['file']} (agree = {row['agree']}): {result}. {row['what_it_tests']}. {text[:160]}")
    print(f"\n{'stored values':>32} " + " ".join(f"agree = {agree}".rjust(12) for agree in ("yes", "no", "na")))
    for result in dict.fromkeys(result for _, result in table):
        print(f"{result:>32} " + " ".join(f"{table[agree, result]:>12}" for agree in ("yes", "no", "na")))
    print("\nnot equal to index.csv:")
    print("\n".join(lines))


def _compared(row: Row, outcome: Outcome) -> str:
    found = outcome.facts.stored_sha256 if outcome.facts else ""
    if found == row["stored_sha256"]:
        return "equal" if found else "no pixels in either"
    if not row["stored_sha256"]:
        return "read here only"
    if not found:
        return "not read here"
    return "lossy JPEG, another decoder" if row["transfer_syntax"] in LOSSY else "unequal"


if __name__ == "__main__":
    main()
