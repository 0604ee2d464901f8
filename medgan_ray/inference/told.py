"""What a recognizer says of scans, as plain data: the same words on the terminal, in files and over HTTP."""

from typing import Any

from medgan_ray.inference.recognizer import Answers, OfSet, Recognizer

UNCALIBRATED = "not calibrated, so nothing is sure: its training has not ended, or held too few scans to calibrate it"


def told(model: Recognizer, answers: Answers) -> list[dict[str, Any]]:
    """Return what is said of each scan.

    Each is ``label`` (the class, null for "I don't know"), ``nearest`` (the class it speaks for most, all equally
    common, also where it isn't sure), ``probabilities`` (by class, as common as in training), ``set`` (the classes that
    hold the true one as often as the calibration promises), ``abstained``, ``anomaly`` (the share of known scans that
    are as unlike the others) and ``foreign`` (too unlike them to be answered); the last two are null without a
    calibration. Of several label sets the first is told that way, and ``others`` holds the same, by name, of the rest.
    """
    first, *rest = answers.sets
    calibrated = model.calibration is not None
    rows = []
    for row, (abstained, foreign) in enumerate(zip(answers.abstained.tolist(), answers.foreign.tolist(), strict=True)):
        said = _of_set(first, row, known=not abstained)
        said |= {
            "abstained": abstained,
            "anomaly": float(answers.p[row]) if calibrated else None,
            "foreign": foreign if calibrated else None,
        }
        if rest:
            said["others"] = {
                each.labels.name: _of_set(each, row, known=bool(each.sure[row]) and not foreign) for each in rest
            }
        rows.append(said)
    return rows


def thresholds(model: Recognizer) -> dict[str, Any]:
    """Return what the answers were decided by; empty without a calibration.

    ``coverage``: share of scans whose set is to hold the true class. ``least_p``: below it a scan is foreign. By label
    set, ``temperatures`` and ``least`` (the probability, all classes equally common, that puts a class into a set).
    """
    fitted = model.calibration
    if fitted is None:
        return {}
    return {
        "coverage": fitted.coverage,
        "least_p": fitted.least_p,
        "temperatures": {each.name: each.temperature for each in fitted.sets},
        "least": {each.name: each.least for each in fitted.sets},
    }


def why_unsure(model: Recognizer) -> str:
    """Return why every scan is abstained from; empty where that isn't so."""
    return "" if model.calibration is not None else UNCALIBRATED


def _of_set(said: OfSet, row: int, known: bool) -> dict[str, Any]:
    classes = said.labels.classes
    nearest = classes[int(said.named[row])]
    return {
        "label": nearest if known else None,
        "nearest": nearest,
        "probabilities": dict(zip(classes, said.probabilities[row].tolist(), strict=True)),
        "set": [name for name, held in zip(classes, said.held[row].tolist(), strict=True) if held],
    }
