"""A map tells what an answer rests on, in nats, and is another one where the answer comes about otherwise."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.inference.recognizer import load_recognizer
from medgan_ray.inference.saliency import saliency_map, write_maps
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import write_dataset

TRAIN = {"checkpoint_images": 480, "writers": [], "lr": 3e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recognizer of the side that a disk is on, and scans that it has not seen."""
    folder = tmp_path_factory.mktemp("sides")
    write_dataset(str(folder / "data"), counts={"train": 120, "val": 40, "test": 40}, sides=True)
    options = {"task": "recognize", "batch": 16, "images": 960, "model": {"recognizer_width": 8}, "train": TRAIN}
    result = train(str(folder / "data"), str(folder / "run"), options)
    assert result.figures["auroc"] > 0.9
    test = open_dataset(str(folder / "data")).split("test").take(np.arange(40))
    return str(folder / "run"), test


def test_a_place_weighs_what_blanking_it_costs(trained):
    model, image = load_recognizer(trained[0]), trained[1].image[0]
    found = saliency_map(model, image, 0, 1)
    np.testing.assert_array_equal(found, saliency_map(model, image, 0, 1))
    pixels = torch.from_numpy(image.astype(np.float32))[None] / 32767.5 - 1
    blanked = pixels.clone()
    blanked[..., :4, :4] = pixels.mean()
    cost = (model.lead(pixels, 0) - model.lead(blanked, 0))[0, 1]
    assert found[:2, :2] == pytest.approx(float(cost), abs=1e-4), "the corner lies in one patch alone"


def test_the_disk_holds_the_answer_up(trained):
    model, (_, test) = load_recognizer(trained[0]), trained
    named = model.answers(test.image).sets[0].named
    on, off = [], []
    for image, code in zip(test.image[:8], named[:8].tolist(), strict=True):
        weight = np.abs(saliency_map(model, image, 0, code))
        disk = image[0] > 30_000
        on.append(weight[disk].mean())
        off.append(weight[~disk].mean())
    assert np.mean(on) > 2 * np.mean(off)


def test_another_head_has_another_map(trained):
    """Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018)."""
    model, image = load_recognizer(trained[0]), trained[1].image[0]
    before = saliency_map(model, image, 0, 1)
    with torch.no_grad():
        torch.nn.init.normal_(model.network.head.weight, generator=torch.Generator().manual_seed(3))
    after = saliency_map(model, image, 0, 1)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.9


def test_maps_are_written_beside_the_scans(trained, tmp_path):
    model, (_, test) = load_recognizer(trained[0]), trained
    keys = write_maps(model, test.image[:2], ["a", "b"], np.array([0, 1]), open_store(str(tmp_path)))
    assert keys == ["a.png", "b.png"]
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())))
    assert picture.shape == (32, 64, 3)
    np.testing.assert_array_equal(picture[:, :32, 0], model.card.intensity.display(test.image[0])[0])
