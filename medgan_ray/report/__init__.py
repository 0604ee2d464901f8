"""Reports: plain data in, one self-contained HTML file out, without scripts, fonts or pictures from elsewhere."""

from medgan_ray.report.page import Curve, Fact, Grid, Level, Motion, Page, Panel, Section, Series, Table, Text, render

__all__ = ["Curve", "Fact", "Grid", "Level", "Motion", "Page", "Panel", "Section", "Series", "Table", "Text", "render"]
