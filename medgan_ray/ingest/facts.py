"""The facts of a dataset as plain data, for its report and for ``inspect``; they name nobody and no file."""

from collections.abc import Mapping
from typing import Any

from medgan_ray.dataset.manifest import SPLITS, Counts, Group, Manifest
from medgan_ray.ingest.deidentify import count_subjects
from medgan_ray.ingest.reasons import MEANINGS

ENOUGH = 100
"""Held-out samples below which no figure of a model is claimed."""
FEW = 5
"""Patients below which a group can point at a person, and teaches a model little."""


def dataset_facts(manifest: Manifest, sha256: str, counts: Counts) -> dict[str, Any]:
    """Return what a dataset is.

    Args:
        manifest: the dataset's.
        sha256: the manifest's digest.
        counts: the manifest's own, or those of ``survey`` for a dataset that has none.
    """
    return {
        "kind": "dataset",
        "manifest": sha256,
        "content_digest": manifest.content_digest,
        "modality": manifest.modality,
        "size": list(manifest.size),
        "samples": sum(entry.samples for entry in manifest.shards),
        "subjects": count_subjects(manifest.subjects),
        "splits": {name: split.model_dump() for name, split in manifest.splits.items()},
        "classes": {labels.name: list(labels.classes) for labels in manifest.labels},
        "counts": counts.model_dump(mode="json"),
        "intensity": manifest.intensity.model_dump(mode="json"),
        "spacing": list(manifest.spacing) if manifest.spacing else None,
        "rejected": dict(sorted(manifest.rejected.items(), key=lambda item: (-item[1], item[0]))),
        "reasons": {code: MEANINGS.get(code, "unknown to this version") for code in manifest.rejected},
        "shards": len(manifest.shards),
        "key_fingerprint": manifest.key_fingerprint,
        "recipe": manifest.recipe,
        "warnings": _warnings(manifest, counts),
    }


def options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's recipe as options of the command line: dotted keys and their values."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": each for inner, each in options(value).items()}
        elif key != "version":
            found[key] = value
    return found


def _warnings(manifest: Manifest, counts: Counts) -> list[str]:
    found = [*_of_subjects(manifest, counts), *_of_splits(manifest, counts)]
    settings = manifest.recipe.get("ingest", {})
    if kept := settings.get("keep"):
        found.append(f"Taken in spite of {', '.join(kept)}: ingest.keep asks for it.")
    if manifest.masked:
        found.append(f"Text was blanked in {manifest.masked:,} samples: look at some of them.")
    for name in ("secondary", "derived"):
        if settings.get(name):
            found.append(f"ingest.{name}=true takes images that were made by a program; text may be drawn into them.")
    return found


def _of_subjects(manifest: Manifest, counts: Counts) -> list[str]:
    found = []
    known, samples = count_subjects(manifest.subjects), sum(entry.samples for entry in manifest.shards)
    if counts.without_subject:
        many = "all" if counts.without_subject == samples else f"{counts.without_subject:,}"
        found.append(
            f"Samples whose patient is unknown: {many}. Scans of one person may stand in two splits, unless they are "
            "near-duplicates, and can't be withdrawn."
        )
    twice = sum(split.subjects for split in manifest.splits.values()) - known
    if twice > 0:
        found.append(f"Leakage: {twice:,} patients stand in more than one split.")
    few = sum(0 < group.subjects < FEW for each in counts.attributes.values() for group in each.values())
    if few:
        found.append(
            f"{few} groups of sex, age, maker or view have fewer than {FEW} patients: they can point at a person, and "
            "teach a model little."
        )
    return found


def _of_splits(manifest: Manifest, counts: Counts) -> list[str]:
    found = []
    held = {name: manifest.splits[name].samples if name in manifest.splits else 0 for name in SPLITS}
    small = [f"{name} {count:,}" for name, count in held.items() if count < ENOUGH]
    if small:
        found.append(f"Small splits: {', '.join(small)} samples; below {ENOUGH} no figure of a model is claimed.")
    for name, count in held.items():
        missing = [known for known in manifest.classes if not _in_split(counts.classes.get(known), name)]
        if count and missing:
            shown = ", ".join(missing[:FEW]) + (" and others" if len(missing) > FEW else "")
            found.append(f"{name} holds no sample of {shown}.")
    unlabeled = counts.classes.get("")
    if unlabeled:
        found.append(f"{sum(unlabeled.samples.values()):,} samples have no class.")
    return found


def _in_split(group: Group | None, split: str) -> int:
    return group.samples.get(split, 0) if group else 0
