"""A translator takes an image of any size, in tiles that don't show, and answers as it did in training."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import UsageError
from medgan_ray.inference import translator
from medgan_ray.inference.translator import load_translator, tiles
from medgan_ray.verbs.train import train
from tests.builders import write_dataset

TRAIN = {"checkpoint_images": 160, "writers": [], "lr": 3e-3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of several kinds, and a held-out scan."""
    folder = tmp_path_factory.mktemp("translators")
    write_dataset(str(folder / "data"), counts={"train": 60, "val": 24, "test": 24})
    for given in ("down2", "noise", "hole"):
        options = {"task": "translate", "batch": 8, "images": 160, "model": {"generator_width": 8}}
        train(str(folder / "data"), str(folder / given), {**options, "train": {**TRAIN, "given": given}})
    return folder, open_dataset(str(folder / "data")).split("test").take(np.arange(4)).image


def halved(image):
    channels, height, width = image.shape
    blocks = image.reshape(channels, height // 2, 2, width // 2, 2)
    return blocks.mean((2, 4)).round().astype(np.uint16)


def test_a_coarse_image_becomes_finer_and_gives_back_what_it_was_made_of(made):
    folder, images = made
    model = load_translator(str(folder / "down2"))
    for image in images:
        coarse = halved(image)
        fine = model.translate(coarse)
        assert fine.shape == image.shape and fine.dtype == np.uint16
        inside = halved((fine > 0) * np.uint16(65535)) == 65535
        apart = np.abs(halved(fine).astype(int) - coarse)
        assert apart[inside].max() <= 2 and inside.mean() > 0.3, "it gives back what it was made of, where not cut off"


def test_tiles_do_not_show(made, monkeypatch):
    folder, images = made
    wide = np.tile(images[0], (1, 15, 9))[:, :450, :277]
    model = load_translator(str(folder / "noise"))
    in_tiles = model.translate(wide)
    assert len(list(tiles(450, 277))) == 2
    monkeypatch.setattr(translator, "TILE", 512)
    whole = model.translate(wide)
    assert in_tiles.shape == wide.shape and np.abs(in_tiles.astype(int) - whole).max() <= 2, "of 65535"


@pytest.mark.parametrize("length", [8, 100, 416, 417, 422, 1000, 4097])
def test_tiles_cover_every_pixel_and_begin_where_the_network_halves(length):
    spans = [rows for rows, _ in tiles(length, 8)]
    covered = np.zeros(length, int)
    for span in spans:
        assert span.start % translator.MULTIPLE == 0 and 0 < span.stop - span.start <= 416
        covered[span] += 1
    assert covered.min() == 1 and covered.max() <= 3


def test_pixels_outside_a_hole_are_the_same_bytes(made):
    folder, images = made
    mask = np.ones((32, 32), bool)
    mask[10:18, 12:20] = False
    filled = load_translator(str(folder / "hole")).translate(images[1], mask)
    np.testing.assert_array_equal(filled[:, mask], images[1][:, mask])
    assert len(np.unique(filled[:, ~mask])) > 10


def test_what_it_cannot_take_is_refused(made):
    folder, images = made
    model = load_translator(str(folder / "hole"))
    with pytest.raises(UsageError, match="takes 1 channels"):
        model.translate(np.zeros((3, 32, 32), np.uint16))
    with pytest.raises(UsageError, match=r"give \[32, 32\]"):
        model.translate(images[0], np.ones((4, 4), bool))
