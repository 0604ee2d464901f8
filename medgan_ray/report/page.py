"""What a report is made of, and how it becomes HTML: every word is escaped by the template, nothing is trusted."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jinja2
import numpy as np
from numpy.typing import NDArray

from medgan_ray.report import figures

FOOTER = "Made by medgan-ray. Generated scans are synthetic: for research, not for diagnosis. Not a medical device."


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs under a title."""

    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of words and numbers; numbers are set right-aligned with four significant digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Pictures of one kind: uint8 [n, H, W] (gray) or [n, H, W, 3] (RGB), laid out in ``columns``."""

    caption: str
    images: NDArray[np.uint8]
    columns: int = 8


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Panels of pictures side by side."""

    title: str
    panels: Sequence[Panel]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a curve; points whose x or y is not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line to compare with: a floor, a limit."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Lines over a common x, with levels to compare them with."""

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    levels: Sequence[Level] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure to read at a glance, at the top of the page."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Motion:
    """An animated GIF."""

    title: str
    gif: bytes
    caption: str
    note: str = ""


Section = Text | Table | Grid | Curve | Motion


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report: a title, one sentence that says how it went, figures at a glance, sections."""

    title: str
    headline: str
    sections: Sequence[Section]
    facts: Sequence[Fact] = ()
    mark: Literal["", "good", "bad"] = ""
    """How the headline is to be taken, shown by a colored bar beside it."""
    footer: str = FOOTER


def render(page: Page) -> str:
    """Return the page as one HTML document that needs nothing else, in a light and a dark dress."""
    return _environment().get_template("page.html").render(page=page, kind=_kind)


def number(value: object) -> str:
    """Return a table's cell as text: four significant digits, thousands separated, a dash where there is nothing."""
    if value is None:
        return "–"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return _decimal(float(value))
    return str(value)


def is_number(value: object) -> bool:
    """Say whether a table sets ``value`` as a number."""
    return value is None or (isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool))


def _decimal(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if 10_000 <= abs(value) < math.inf else f"{value:.4g}"


def _kind(section: Section) -> str:
    return type(section).__name__.lower()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medgan_ray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, draw=figures.draw, sheet=figures.sheet, gif=figures.gif_uri)
    environment.tests.update(numeric=is_number)
    return environment
