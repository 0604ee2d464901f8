"""Sheets hold the pixels they were given; curves stand where their numbers say."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from medgan_ray.report import Curve, Level, Panel, Series
from medgan_ray.report.figures import HEIGHT, WIDTH, animated_gif, draw, grid_png, sheet, short, shrunk, ticks, tile


def _pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_tile_keeps_every_image_in_reading_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6), np.uint8)
    picture = tile(images, columns=3)
    assert picture.shape == (8, 18)
    for index in range(5):
        row, column = divmod(index, 3)
        assert (picture[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6] == images[index]).all()
    assert not picture[4:, 12:].any()


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 3)])
def test_sheet_is_lossless(shape: tuple[int, ...]):
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    result = sheet(Panel(caption="p", images=images, columns=2))
    assert (_pixels(result.uri) == tile(images, 2)).all()
    assert result.count == 3 and result.width % 10 == 0


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 1, 4, 6), (5, 3, 4, 6), (5, 4, 6, 3)])
def test_grid_png_takes_channels_first_and_last(shape: tuple[int, ...]):
    images = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(grid_png(images, columns=5))))
    first = np.moveaxis(images[0], 0, -1) if shape[1] == 3 else images[0].squeeze()
    assert pixels.shape[:2] == (4, 30)
    assert (pixels[:4, :6] == first).all()


@pytest.mark.parametrize("images", [np.zeros((2, 4, 4)), np.zeros((2, 2, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_grid_png_refuses_what_is_no_picture(images: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        grid_png(images)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.13, 0.97), (-5, 1200), (3, 3), (0, 0), (1e-7, 9e-7), (74999, 75001)]
)
def test_ticks_are_few_round_and_enclose(low: float, high: float):
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert 2 <= len(found) <= 8
    steps = np.diff(found)
    assert np.allclose(steps, steps[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(75000, "75k"), (1_500_000, "1.5M"), (0.25, "0.25"), (0, "0"), (-2000, "-2k")]
)
def test_short(value: float, text: str):
    assert short(value) == text


def test_a_curve_is_drawn_to_scale():
    curve = Curve(
        title="c",
        series=[
            Series(name="a", x=[0, 50, 100], y=[0.0, 1.0, 2.0]),
            Series(name="b", x=[0, 100], y=[2.0, float("nan")]),
        ],
        levels=[Level(name="floor", value=1.0)],
        x_label="images",
        y_label="ratio",
    )
    drawing = draw(curve)
    points = [tuple(map(float, pair.split(","))) for pair in drawing.lines[0].points.split()]
    assert points[0] == (drawing.left, drawing.bottom) and points[2] == (drawing.right, drawing.top)
    assert points[1] == ((drawing.left + drawing.right) / 2, drawing.levels[0].at)
    assert len(drawing.lines[1].dots) == 1
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_long_lines_carry_no_dots():
    curve = Curve(title="c", series=[Series(name="a", x=range(500), y=range(500))], x_label="x", y_label="y")
    line = draw(curve).lines[0]
    assert line.dots == () and line.points.count(",") == 500


def test_an_animation_has_a_sheet_a_frame() -> None:
    frames = np.zeros((3, 2, 1, 16, 24), np.uint8)
    frames[1] = 100
    frames[2, 1] = 200
    with Image.open(io.BytesIO(animated_gif(frames, 2, 80, 100_000))) as found:
        assert (found.n_frames, found.size, found.info["duration"], found.info["loop"]) == (3, (48, 16), 80, 0)
        found.seek(2)
        shown = np.asarray(found.convert("L"))
    assert (shown[:, :24] == 0).all() and (shown[:, 24:] == 200).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_gives_up_gray_levels_to_stay_small(channels: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 1, channels, 64, 64), dtype=np.uint8)
    whole, small = (animated_gif(frames, 1, 80, most) for most in (10**7, 40_000))
    assert len(small) <= 40_000 < len(whole)
    assert animated_gif(frames, 1, 80, 40_000) == small
    with Image.open(io.BytesIO(small)) as found:
        assert found.n_frames == 12


def test_shrinking_takes_means_of_blocks() -> None:
    images = np.arange(2 * 9 * 8, dtype=np.uint8).reshape(2, 1, 9, 8)
    assert np.array_equal(shrunk(images, 8), images)
    half = shrunk(images, 4)
    assert half.shape == (2, 1, 4, 4) and half[0, 0, 0, 0] == round((0 + 1 + 8 + 9) / 4)
    assert shrunk(np.zeros((1, 3, 300, 260), np.uint8), 128).shape == (1, 3, 150, 130)
