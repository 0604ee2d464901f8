"""A report is one file, says what it was given, and lets no name become markup."""

import html.parser
import re

import numpy as np
import pytest

from medgan_ray.report import Curve, Fact, Grid, Level, Motion, Page, Panel, Series, Table, Text, render

HOSTILE = '<script>alert("x")</script>"\'><img src=x onerror=alert(1)>'


class _Reader(html.parser.HTMLParser):
    """Collects tags, attributes and words, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def _page(word: str) -> Page:
    curve = Curve(
        title=word,
        series=[Series(name=word, x=[0, 1, 2], y=[3.0, float("nan"), 1.0])],
        levels=[Level(name=word, value=0.5)],
        x_label=word,
        y_label=word,
        note=word,
    )
    return Page(
        title=word,
        headline=word,
        facts=[Fact(name=word, value=word)],
        sections=[
            Text(title=word, paragraphs=[word]),
            Table(title=word, columns=[word, "n"], rows=[[word, 12345], [word, None]], note=word),
            Grid(title=word, panels=[Panel(caption=word, images=np.zeros((5, 8, 6), np.uint8), columns=3)], note=word),
            Motion(title=word, gif=b"GIF89a", caption=word, note=word),
            curve,
        ],
        mark="good",
        footer=word,
    )


def test_hostile_names_stay_words():
    plain, hostile = _read(render(_page("plain"))), _read(render(_page(HOSTILE)))
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert "script" not in hostile.tags
    assert sum(HOSTILE in word for word in hostile.words) == sum("plain" in word for word in plain.words) > 15


def test_needs_nothing_from_elsewhere():
    text = render(_page("plain"))
    assert not re.search(r"https?://|//[a-z]|@import|url\(|<link|<script", text)
    sources = [value for name, value in _read(text).attributes if name in {"src", "href"}]
    assert [value[:22] for value in sources if value] == ["data:image/png;base64,", "data:image/gif;base64,"]
    assert "default-src 'none'" in text


def test_numbers_are_written_for_readers():
    rows = [["a", 12345], ["b", 0.123456], ["c", None], ["d", float("nan")], ["e", np.float32(2.5)], ["f", 123456.7]]
    words = _read(
        render(Page(title="t", headline="h", sections=[Table(title="n", columns=["k", "v"], rows=rows)]))
    ).words
    for shown in ("12,345", "0.1235", "–", "2.5", "123,457"):
        assert shown in words


def test_a_curve_without_a_finite_point_says_so():
    curve = Curve(title="c", series=[Series(name="s", x=[1.0], y=[float("inf")])], x_label="x", y_label="y")
    text = render(Page(title="t", headline="h", sections=[curve]))
    assert "Nothing was measured here." in text and "<svg" not in text


def test_a_panel_of_the_wrong_type_is_refused():
    panel = Panel(caption="p", images=np.zeros((2, 4, 4), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="uint8"):
        render(Page(title="t", headline="h", sections=[Grid(title="g", panels=[panel])]))
