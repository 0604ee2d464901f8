"""Prints a report on the terminal: its words, its tables, its curves as small bars; pictures are left to the page."""

from collections.abc import Sequence

from medgan_ray.cli.show import Show
from medgan_ray.report import Curve, Page, Table, Text

LEVELS = " ▁▂▃▄▅▆▇█"


def print_page(show: Show, page: Page) -> None:
    """Print a page for a person; with JSON there is none."""
    show.line(page.headline)
    for section in page.sections:
        if not isinstance(section, Table | Text | Curve):
            continue
        show.line(f"\n{section.title}")
        if isinstance(section, Text):
            for paragraph in section.paragraphs:
                show.line(f"- {paragraph}")
            continue
        if isinstance(section, Table):
            show.table(section.columns, section.rows)
        else:
            _curve(show, section)
        if section.note:
            show.line(section.note)


def bars(values: Sequence[float], top: float) -> str:
    """Return a row of characters as high as the values, 0 to ``top``; what is above 0 is never empty."""
    steps = len(LEVELS) - 1
    return "".join(LEVELS[min(steps, -int(-value * steps // top))] if value > 0 < top else " " for value in values)


def _curve(show: Show, curve: Curve) -> None:
    """Print each line of a curve as one row of bars, all to one scale."""
    drawn = [series for series in curve.series if len(series.x)]
    if not drawn:
        return
    top = max(max(series.y) for series in drawn)
    width = max(len(series.name) for series in drawn)
    for series in drawn:
        show.line(f"{series.name:<{width}} |{bars(series.y, top)}|")
    first, last = f"{drawn[0].x[0]:.4g}", f"{drawn[0].x[-1]:.4g}"
    show.line(f"{'':<{width}}  {first}{last:>{max(1, len(drawn[0].x) - len(first))}}")
    show.line(f"{'':<{width}}  {curve.x_label}; the highest bar is {top:.3g} {curve.y_label}")
