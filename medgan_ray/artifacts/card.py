"""The model card of a version, in Hugging Face's format: YAML in front, then what a person should know.

Format: https://huggingface.co/docs/hub/model-cards (the annotated template of ``huggingface_hub``). It tells of the
training scans by counts alone; whatever comes from outside (names of classes, reasons) is escaped.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from medgan_ray.artifacts.versions import DESCRIPTION, WEIGHTS, Description, Release
from medgan_ray.config import Section

FEWEST = 5
"""Scans of a class below which a card only says that there are fewer."""
NO_DEVICE = "This is **not a medical device**. Generated scans show nobody; no diagnosis may rest on them."
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>&~$-])")


class PublishSettings(Section):
    """What a published version says of itself."""

    license: str = Field(default="other", pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")
    """License of the weights by Hugging Face's short names, such as apache-2.0; other: none is stated."""
    use: str = Field(default="", max_length=2000)
    """What the model is meant for, in a sentence of the card."""


def write_card(card: Description, release: Release, evaluation: Mapping[str, Any], use: str = "") -> str:
    """Return the card of a version as Markdown.

    Args:
        card: what the model is.
        release: what publishing adds.
        evaluation: ``rules`` and ``figures``, as plain JSON; empty if there was none.
        use: what the publisher says it is meant for.
    """
    parts = (
        f"---\n{yaml.safe_dump(_front(card, release), sort_keys=False, allow_unicode=True)}---",
        f"# {escaped(release.name)}, version {release.version}",
        _forced(release),
        f"A generator of synthetic {escaped(card.modality)} scans. {NO_DEVICE}",
        "## Intended use\n\n" + _use(use),
        "## Limits\n\n" + _limits(card, release),
        "## Training data\n\n" + _data(card),
        "## Evaluation\n\n" + _gate(release, evaluation.get("rules") or ()),
        _metrics(evaluation.get("figures") or {}),
        "## Lineage\n\n" + _lineage(card, release),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: object) -> str:
    """Return one line of plain words as Markdown that shows them and nothing else."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _front(card: Description, release: Release) -> dict[str, Any]:
    stated = release.license != "other"
    tags = ["medical-imaging", "synthetic-data", "gan", card.modality.lower(), str(card.model.get("name", "gan"))]
    return {
        "license": release.license,
        **({} if stated else {"license_name": "not-stated"}),
        "library_name": "medgan-ray",
        "pipeline_tag": "unconditional-image-generation",
        "tags": [*dict.fromkeys(tags), *([] if release.forced is None else ["gate-refused"])],
        "gate": release.verdict,
    }


def _forced(release: Release) -> str:
    if release.forced is None:
        return ""
    what = ", ".join(escaped(name) for name in release.failed) or "it was not evaluated"
    return f"> **Published against the release gate** ({what}).\n> Why: {escaped(release.forced)}"


def _use(use: str) -> str:
    said = f"{escaped(use)}\n\n" if use.strip() else ""
    return (
        f"{said}Research and teaching: trying out software, augmenting training data, showing what a method does. "
        "Not for diagnosis, treatment or any decision about a patient."
    )


def _limits(card: Description, release: Release) -> str:
    height, width = card.size
    judged = "" if release.verdict != "none" else "\n- These weights were not evaluated: nothing is known of copies."
    return (
        f"- {height} × {width} pixels, {card.channels} channel{'s' if card.channels > 1 else ''}; finer detail is not "
        "there.\n- What the training scans lacked (makers, ages, findings), the generated ones lack too.\n"
        "- A passed privacy audit bounds the attacks that it tried; it proves no absence of others." + judged
    )


def _data(card: Description) -> str:
    unit = card.intensity
    said = f"{escaped(card.modality)}, values {unit.low:g} to {unit.high:g} {escaped(unit.unit)}."
    classes = card.labels[0].classes if card.labels else ()
    if not classes or len(classes) != len(card.class_counts):
        return said
    rows = [(escaped(name), _counted(count)) for name, count in zip(classes, card.class_counts, strict=True)]
    return f"{said}\n\n{_table(('class', 'training scans'), rows)}"


def _counted(count: int) -> str:
    return str(count) if count >= FEWEST else f"fewer than {FEWEST}"


def _gate(release: Release, rules: Sequence[Mapping[str, Any]]) -> str:
    if release.verdict == "none":
        return "The release gate: **not evaluated**."
    rows = [
        (
            escaped(rule.get("name", "")),
            _number(rule.get("value")),
            escaped(rule.get("limit", "")),
            "kept" if rule.get("passed") is True else "**not kept**",
        )
        for rule in rules
    ]
    return f"The release gate: **{release.verdict}**.\n\n{_table(('rule', 'value', 'limit', 'verdict'), rows)}"


def _metrics(figures: Mapping[str, Mapping[str, Any]]) -> str:
    if not figures:
        return ""
    rows = []
    for name, figure in sorted(figures.items()):
        absent = figure.get("not_applicable")
        value = escaped(absent) if absent else _number(figure.get("value"))
        ends = [_number(figure.get(end)) for end in ("low", "high")]
        between = " to ".join(ends) if "–" not in ends else "–"
        rows.append((escaped(name), value, between, _number(figure.get("floor")), str(figure.get("n", ""))))
    head = ("figure", "value", "95 % interval", "floor (real to real)", "n")
    return f"{_table(head, rows)}\n\nThe floor is the same figure between two disjoint sets of real scans."


def _lineage(card: Description, release: Release) -> str:
    rows = [
        ("dataset (manifest)", card.manifest),
        ("content", card.content_digest),
        ("run", f"{release.run} ({release.run_sha256[:12]})"),
        ("checkpoint", f"{card.checkpoint}, {card.images} images seen"),
        ("weights", card.weights),
        ("evaluation", release.evaluation or "none"),
        ("published", release.published),
        ("medgan-ray", card.code_version),
    ]
    table = _table(("", ""), [(name, escaped(value)) for name, value in rows])
    return f"{table}\n\n`{WEIGHTS}` holds the generator alone, no discriminator; `{DESCRIPTION}` describes it."


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
