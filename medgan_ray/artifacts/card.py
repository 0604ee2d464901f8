"""The model card of a version, in Hugging Face's format: YAML in front, then what a person should know.

Format: https://huggingface.co/docs/hub/model-cards (the annotated template of ``huggingface_hub``). It tells of the
training scans by counts alone; whatever comes from outside (names of classes, reasons) is escaped.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from medgan_ray.artifacts.calibration import FILE, Calibration
from medgan_ray.artifacts.versions import DESCRIPTION, WEIGHTS, Description, Release
from medgan_ray.config import Section
from medgan_ray.metrics.calibrate import promise
from medgan_ray.models import lite0

FEWEST = 5
"""Scans of a class below which a card only says that there are fewer."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>&~$-])")


class PublishSettings(Section):
    """What a published version says of itself."""

    license: str = Field(default="other", pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")
    """License of the weights by Hugging Face's short names, such as apache-2.0; other: none is stated."""
    use: str = Field(default="", max_length=2000)
    """What the model is meant for, in a sentence of the card."""


class _Told(NamedTuple):
    """What a card tells of."""

    card: Description
    release: Release
    calibration: Calibration | None


class _Kind(NamedTuple):
    """What the cards of a task's models say."""

    pipeline: str
    """Hugging Face's name of the task."""
    tags: tuple[str, ...]
    title: str
    """What it is; names the modality."""
    use: str
    limits: Callable[[_Told], list[str]]
    holds: str
    """What the files of a version hold."""


def write_card(
    card: Description,
    release: Release,
    evaluation: Mapping[str, Any],
    use: str = "",
    calibration: Calibration | None = None,
) -> str:
    """Return the card of a version as Markdown.

    Args:
        card: what the model is.
        release: what publishing adds.
        evaluation: ``rules``, ``figures`` and ``sentences``, as plain JSON; empty if there was none.
        use: what the publisher says it is meant for.
        calibration: of a recognizer.
    """
    kind, told = _KINDS[card.task], _Told(card, release, calibration)
    parts = (
        f"---\n{yaml.safe_dump(_front(told, kind), sort_keys=False, allow_unicode=True)}---",
        f"# {escaped(release.name)}, version {release.version}",
        _forced(release),
        kind.title.format(modality=escaped(card.modality)),
        "## Intended use\n\n" + (f"{escaped(use)}\n\n" if use.strip() else "") + kind.use,
        "## Limits\n\n" + "\n".join(f"- {each}" for each in kind.limits(told)),
        "## Training data\n\n" + _data(card),
        "## Evaluation\n\n" + _gate(release, evaluation.get("rules") or ()),
        escaped((evaluation.get("sentences") or {}).get("recognition", "")),
        _metrics(evaluation.get("figures") or {}),
        "## Lineage\n\n" + _lineage(card, release) + f"\n\n{kind.holds}",
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: object) -> str:
    """Return one line of plain words as Markdown that shows them and nothing else."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _front(told: _Told, kind: _Kind) -> dict[str, Any]:
    card, release = told.card, told.release
    stated = release.license != "other"
    tags = ["medical-imaging", *kind.tags, card.modality.lower(), str(card.model.get("name", kind.tags[-1]))]
    return {
        "license": release.license,
        **({} if stated else {"license_name": "not-stated"}),
        "library_name": "medgan-ray",
        "pipeline_tag": kind.pipeline,
        "tags": [*dict.fromkeys(tags), *([] if release.forced is None else ["gate-refused"])],
        "gate": release.verdict,
    }


def _forced(release: Release) -> str:
    if release.forced is None:
        return ""
    what = ", ".join(escaped(name) for name in release.failed) or "it was not evaluated"
    return f"> **Published against the release gate** ({what}).\n> Why: {escaped(release.forced)}"


def _of_generator(told: _Told) -> list[str]:
    judged = [] if told.release.verdict != "none" else ["These weights were not evaluated: nothing is known of copies."]
    return [
        f"{_size(told.card)}; finer detail is not there.",
        "What the training scans lacked (makers, ages, findings), the generated ones lack too.",
        "A passed privacy audit bounds the attacks that it tried; it proves no absence of others.",
        *judged,
    ]


def _of_recognizer(told: _Told) -> list[str]:
    names = "; ".join(f"{escaped(each.name)}: {', '.join(map(escaped, each.classes))}" for each in told.card.labels)
    judged = [] if told.release.verdict != "none" else ["These weights were not evaluated: nothing is known of errors."]
    terms = [lite0.IMAGENET] if told.card.model.get("name") == lite0.NAME else []
    return [
        f"It names these classes and no others, {names}. Whatever a scan shows, it can only be one of them.",
        f"It sees {_size(told.card)}, prepared as the training scans were; what is not visible there it can't see.",
        "Probabilities hold where classes are as common as in training; another scanner, hospital or kind of patient "
        "is another matter: evaluate it on scans of your own first.",
        *_promised(told.calibration),
        *terms,
        *judged,
    ]


def _promised(calibration: Calibration | None) -> list[str]:
    """Return what each label set's calibration promises its user."""
    if calibration is None:
        return ["It is not calibrated: nothing it says can be relied on."]
    found = []
    for each in calibration.sets:
        ends = promise(each.patients, calibration.coverage)
        on = f"{escaped(each.name)}: calibrated on {each.scans:,} scans of {each.patients:,} patients. "
        meant = f"Sets are meant to hold the true class in {calibration.coverage:.0%} of scans"
        if each.least <= 0:
            found.append(f"{on}Too few for a promise: every set holds all classes, and nothing is answered.")
        else:
            between = f"with so few patients it may in truth be {ends.low:.0%} to {ends.high:.0%}"
            found.append(f"{on}{meant}; {between}. It is no promise by class.")
    answered = f'"I don\'t know" is an answer: where the set is not one class, or fewer than {calibration.least_p:.0%}'
    return [*found, f"{answered} of known scans are as unlike the training scans."]


def _size(card: Description) -> str:
    height, width = card.size
    return f"{height} × {width} pixels, {card.channels} channel{'s' if card.channels > 1 else ''}"


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
    """Return the figures as a table; the floors have a column where any figure has one."""
    if not figures:
        return ""
    floors = any(figure.get("floor") is not None for figure in figures.values())
    rows = []
    for name, figure in sorted(figures.items()):
        absent = figure.get("not_applicable")
        value = escaped(absent) if absent else _number(figure.get("value"))
        ends = [_number(figure.get(end)) for end in ("low", "high")]
        between = " to ".join(ends) if "–" not in ends else "–"
        floor = [_number(figure.get("floor"))] if floors else []
        rows.append([escaped(name), value, between, *floor, str(figure.get("n", ""))])
    head = ["figure", "value", "95 % interval", *(["floor (real to real)"] if floors else []), "n"]
    note = "\n\nThe floor is the same figure between two disjoint sets of real scans." if floors else ""
    return _table(head, rows) + note


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
    return _table(("", ""), [(name, escaped(value)) for name, value in rows])


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_KINDS: Mapping[str, _Kind] = {
    "generate": _Kind(
        pipeline="unconditional-image-generation",
        tags=("synthetic-data", "gan"),
        title="A generator of synthetic {modality} scans. This is **not a medical device**. Generated scans show "
        "nobody; no diagnosis may rest on them.",
        use="Research and teaching: trying out software, augmenting training data, showing what a method does. "
        "Not for diagnosis, treatment or any decision about a patient.",
        limits=_of_generator,
        holds=f"`{WEIGHTS}` holds the generator alone, no discriminator; `{DESCRIPTION}` describes it.",
    ),
    "recognize": _Kind(
        pipeline="image-classification",
        tags=("recognizer",),
        title="A recognizer of what {modality} scans show, with calibrated probabilities and the right to say "
        '"I don\'t know". This is **not a medical device**: for research, never for a decision about a patient.',
        use="Research and teaching: measuring what such a model can and can't do on scans of one's own, sorting scans "
        "for people who look at each. Not for diagnosis, treatment or any decision about a patient.",
        limits=_of_recognizer,
        holds=f"`{WEIGHTS}` holds trunk and head, `{FILE}` temperatures, thresholds and where known scans lie: neither "
        f"means anything without the other; `{DESCRIPTION}` describes them.",
    ),
}
"""By task."""
