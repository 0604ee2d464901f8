"""The report on a dataset: its facts as tables and curves, without pixels, and without names of files or people."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan_ray.dataset.manifest import SPLITS
from medgan_ray.ingest.album import Album, Picture
from medgan_ray.ingest.deidentify import ATTRIBUTES
from medgan_ray.ingest.facts import FEW, options
from medgan_ray.ingest.reasons import MEANINGS
from medgan_ray.report import Curve, Fact, Page, Section, Series, Table, Text

HASH = 12
"""Digits by which a page names a series."""
SHOWN = {"age_decade": "age"}
FOOTER = "Made by medgan-ray. For research, not for diagnosis. Not a medical device."

Cell = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Last:
    """What one ingest did.

    Attributes:
        files: how many it found.
        added: samples that the dataset did not hold before.
        rejected: what it did not take: how many files or frames by reason.
        series: series that are uneven, tilted or mixed, as ``IngestResult`` has them.
        pictures: thumbnails of what it did not take, by reason; for the private page.
    """

    files: int
    added: int
    rejected: Mapping[str, int]
    series: Sequence[Mapping[str, Any]]
    pictures: Album[str, Picture]


def page(found: Mapping[str, Any], last: Last | None = None, exact: bool = False) -> Page:
    """Return the report on the facts of a dataset, without any pixels.

    Args:
        found: what ``dataset_facts`` gave.
        last: what the last ingest did, if that is known.
        exact: count small groups of patients, too: for whoever has the dataset at hand.
    """
    rejected = sum(found["rejected"].values())
    top = [
        Fact(name="Samples", value=f"{found['samples']:,}"),
        Fact(name="Patients", value=f"{found['subjects']:,}" if found["subjects"] else "unknown"),
        Fact(name="Classes", value=f"{len(_classes(found)):,}" if _classes(found) else "none"),
        Fact(name="Files or frames left out", value=f"{rejected:,}"),
    ]
    sections: list[Section] = []
    if found["warnings"]:
        sections.append(Text(title="Worth knowing", paragraphs=found["warnings"]))
    sections += [*_splits(found), *_reasons(found, last), *_series(last), _intensities(found)]
    sections += [*_attributes(found, exact), _recipe(found), _identity(found)]
    return Page(title="Dataset report", headline=_headline(found), facts=top, sections=sections, footer=FOOTER)


def _headline(found: Mapping[str, Any]) -> str:
    height, width = found["size"]
    of = f" of {found['subjects']:,} patients" if found["subjects"] else ""
    rejected = found["rejected"]
    text = f"{found['samples']:,} images{of}, {height} × {width} pixels, modality {found['modality']}."
    if not rejected:
        return f"{text} Nothing was left out."
    reason, count = next(iter(rejected.items()))
    mostly, main = ("mostly", f"{reason}, {count:,}") if len(rejected) > 1 else ("all", reason)
    return f"{text} Left out: {sum(rejected.values()):,}, {mostly} for this: {found['reasons'][reason]} ({main})."


def _classes(found: Mapping[str, Any]) -> list[str]:
    return [*next(iter(found["classes"].values()), [])]


def _splits(found: Mapping[str, Any]) -> list[Section]:
    total, known = max(1, found["samples"]), bool(found["subjects"])
    meanings = {
        "train": "what models learn from",
        "val": "by which they are compared",
        "test": "kept for what is claimed",
    }
    rows: list[Sequence[Cell]] = [
        [
            name,
            split["samples"],
            f"{split['samples'] / total:.1%}",
            *[split["subjects"]][:known],
            meanings.get(name, ""),
        ]
        for name, split in _in_order(found["splits"]).items()
    ]
    columns = ["split", "samples", "share", *["patients"][:known], "what for"]
    note = "A patient stands in one split, and so do near-duplicates of unknown patients."
    sections: list[Section] = [Table(title="Splits", columns=columns, rows=rows, note=note)]
    groups = found["counts"]["classes"]
    names = [name for name in [*_classes(found), ""] if name in groups]
    if names:
        lines = [_row(name, groups[name], known, exact=True) for name in names]
        sections.append(Table(title="Classes", columns=_columns(known, "class"), rows=lines))
    return sections


def _in_order(splits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: splits[name] for name in [*SPLITS, *splits] if name in splits}


def _columns(known: bool, *first: str) -> list[str]:
    return [*first, *SPLITS, "all", *["patients"][:known]]


def _row(name: str, group: Mapping[str, Any], known: bool, exact: bool) -> list[Cell]:
    """Return a table's row of a group: its samples in each split and in all, and its patients if any are known."""
    splits = [group["samples"].get(split, 0) for split in SPLITS]
    patients = group["subjects"]
    if exact or not 0 < patients < FEW:
        return [name or "unknown", *splits, sum(splits), *[patients][:known]]
    return [name or "unknown", *[None] * (len(splits) + 1), f"under {FEW}"]


def _reasons(found: Mapping[str, Any], last: Last | None) -> list[Section]:
    every, newest = found["rejected"], last.rejected if last else {}
    # An ingest that adds nothing leaves the manifest as it is, with its counts.
    reasons = [*every, *sorted(set(newest) - set(every))]
    note = "Counted are files, or frames of files that hold several."
    if last:
        note = f"The last ingest found {last.files:,} files and added {last.added:,} samples. {note}"
    if not reasons:
        return [Text(title="What was left out", paragraphs=[f"Nothing. {note}"])] if last else []
    two = bool(last) and dict(newest) != dict(every)
    rows: list[Sequence[Cell]] = [
        [reason, MEANINGS.get(reason, ""), *[newest.get(reason, 0)][:two], every.get(reason, 0)] for reason in reasons
    ]
    if last and last.pictures:
        note += " Thumbnails of some are in private/thumbnails.html."
    columns = ["reason", "meaning", *["last ingest"][:two], "in all"]
    return [Table(title="What was left out, and why", columns=columns, rows=rows, note=note)]


def _series(last: Last | None) -> list[Section]:
    """Return what the last ingest found of series in space."""
    if not last or not last.series:
        return []
    rows: list[Sequence[Cell]] = [
        [
            note["series"][:HASH],
            ", ".join(note["flags"]),
            note["slices"],
            ", ".join(f"{step:g}" for step in note["steps_mm"]),
            note["tilt_degrees"],
        ]
        for note in last.series
    ]
    text = f"Of the last ingest, some if there are many. A series is told by the first {HASH} digits of its keyed hash."
    columns = ["series", "what is wrong", "slices", "steps (mm)", "tilt (degrees)"]
    return [Table(title="Series that are not even", columns=columns, rows=rows, note=text)]


def _intensities(found: Mapping[str, Any]) -> Section:
    """Return the distribution of values in the modality's unit; the ends, where clipped values gather, in words."""
    intensity, counts = found["intensity"], found["counts"]
    low, high = intensity["low"], intensity["high"]
    series, ends = [], []
    for split, bins in _in_order(counts["histogram"]).items():
        total, (lowest, highest) = max(1, sum(bins)), counts["ends"][split]
        inside = np.asarray(bins, float)
        inside[[0, -1]] -= lowest, highest
        centers = low + (np.arange(len(bins)) + 0.5) / len(bins) * (high - low)
        series.append(Series(name=split, x=centers.tolist(), y=(inside * (100 / total)).tolist()))
        ends.append(f"{split} {lowest / total:.1%} and {highest / total:.1%}")
    unit = {"HU": "Hounsfield units", "grey": "grey level", "relative": "share of the scan's own range"}
    return Curve(
        title="Intensities",
        series=series,
        x_label=unit.get(intensity["unit"], intensity["unit"]),
        y_label="% of pixels",
        note=f"Not drawn: pixels at the lower and the upper end ({low:g} and {high:g}, and what was clipped there): "
        f"{'; '.join(ends)}."
        if ends
        else "",
    )


def _attributes(found: Mapping[str, Any], exact: bool) -> list[Section]:
    rows: list[Sequence[Cell]] = []
    known = bool(found["subjects"])
    attributes = found["counts"]["attributes"]
    for name in (name for name in ATTRIBUTES if name in attributes):
        for value in sorted(attributes[name], key=_natural):
            rows.append([SHOWN.get(name, name), *_row(value, attributes[name][value], known, exact)])
    if not rows:
        return []
    note = "" if exact else f"Groups of fewer than {FEW} patients are not counted here; inspect counts them."
    return [Table(title="Who and how", columns=_columns(known, "attribute", "value"), rows=rows, note=note)]


def _natural(value: str) -> tuple[bool, int, str]:
    first = value.partition("-")[0]
    return not value, int(first) if first.isdecimal() else 0, value


def _recipe(found: Mapping[str, Any]) -> Section:
    chosen = sorted(options(found["recipe"]).items(), key=lambda item: ("." in item[0], item[0]))
    rows = [[name, _written(value)] for name, value in chosen]
    note = "The same scans with these options, and the same subject key, give the same dataset, byte for byte."
    return Table(title="The recipe", columns=["option", "value"], rows=rows, note=note)


def _written(value: object) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _identity(found: Mapping[str, Any]) -> Section:
    intensity = found["intensity"]
    spacing = found["spacing"]
    rows = [
        ["manifest", found["manifest"]],
        ["content digest", found["content_digest"]],
        ["subject key's fingerprint", found["key_fingerprint"] or "none: no patient is known"],
        ["stored values", f"0 to 65535 are {intensity['low']:g} to {intensity['high']:g} {intensity['unit']}"],
        ["pixel spacing (mm)", " × ".join(f"{each:g}" for each in spacing) if spacing else "unknown or not uniform"],
        ["shards", f"{found['shards']:,}"],
    ]
    note = "The content digest names samples, labels, splits and recipe, whoever ingested them and whatever the key."
    return Table(title="Names", columns=["what", "which"], rows=rows, note=note)
