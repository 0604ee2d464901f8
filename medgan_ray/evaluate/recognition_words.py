"""What a recognizer's figures come to, in sentences that claim no more than the intervals hold."""

from collections.abc import Mapping

from medgan_ray.evaluate.answered import Said
from medgan_ray.metrics.figure import Figure


def sentence(said: Said, figures: Mapping[str, Figure]) -> str:
    """Return what the figures of a label set come to.

    Args:
        said: what is said of its test scans.
        figures: by name without the chapter's.
    """
    parts = (promise(said), _kept(figures), against_pixels(figures), _sure(figures))
    return " ".join(part for part in parts if part)


def promise(said: Said) -> str:
    """Return what the calibration promises its user with so few patients."""
    fitted, promised = said.fitted, said.promise
    if fitted is None or promised is None:
        return "It is not calibrated: nothing it says can be relied on, and it answers nothing."
    on = f"Calibrated on {fitted.scans:,} scans of {fitted.patients:,} patients: "
    if fitted.least <= 0:
        meant = f"too few for sets that hold the true class in {said.coverage:.0%} of scans"
        return f"{on}{meant}, so every set holds all classes and nothing is answered."
    return (
        f"{on}sets meant to hold the true class in {said.coverage:.0%} of scans may in truth hold it in "
        f"{promised.low:.0%} to {promised.high:.0%}, of scans like these; the promise is not made for each class."
    )


def against_pixels(figures: Mapping[str, Figure]) -> str:
    """Return whether it is better than a linear model of raw pixels; empty where that is not known."""
    over, ours, theirs = (
        figures.get(name) for name in ("over_pixels", "balanced_accuracy", "pixels.balanced_accuracy")
    )
    if not over or over.value is None or over.low is None or over.high is None:
        return ""
    if over.low > 0:
        word = "It is better than a linear model of raw pixels"
    elif over.high < 0:
        word = "It is worse than a linear model of raw pixels"
    else:
        word = "It is not shown to be better than a linear model of raw pixels"
    return f"{word}: balanced accuracy {_number(ours)} against {_number(theirs)}, a difference of {_signed(over)}."


def _kept(figures: Mapping[str, Figure]) -> str:
    found, over = figures.get("coverage"), figures.get("over_promise")
    if not found or found.value is None or not over or over.high is None:
        return ""
    told = f"On {found.n:,} test scans they hold it in {found.value:.0%} ({found.low:.0%} to {found.high:.0%})"
    return f"{told}: the promise is not kept." if over.high < 0 else f"{told}."


def _sure(figures: Mapping[str, Figure]) -> str:
    answered, among, over = (figures.get(name) for name in ("answered", "error_answered", "error"))
    if not answered or answered.value is None or not over or over.value is None:
        return ""
    if not among or among.value is None:
        return "It answers none of them."
    return (
        f"It answers {answered.value:.0%} of them, and is wrong in {among.value:.0%} of those; forced to answer all, "
        f"in {over.value:.0%}."
    )


def _number(figure: Figure | None) -> str:
    return "unknown" if figure is None or figure.value is None else f"{figure.value:.3f}"


def _signed(figure: Figure) -> str:
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"
