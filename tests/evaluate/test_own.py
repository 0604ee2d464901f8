"""The classifier of the real training scans: fitted once, the same anywhere, and of use as an extractor."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.shards import Samples
from medgan_ray.engine.watch import to_signed
from medgan_ray.errors import InputError
from medgan_ray.evaluate import fit, own
from medgan_ray.evaluate.features import open_extractor
from medgan_ray.store import open_store
from tests.builders import write_dataset


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(own, "IMAGES", 256)


def opened(folder, classes=(), size=16):
    write_dataset(str(folder / "data"), size, counts={"train": 80, "test": 40}, classes=classes)
    return open_dataset(str(folder / "data")), open_store(str(folder / "kept"))


def images(dataset, split="test"):
    source = dataset.split(split)
    return to_signed(source.take(np.arange(len(source))).image)


def test_it_is_fitted_once_and_the_same_anywhere(tmp_path, monkeypatch):
    dataset, store = opened(tmp_path, ("a", "b"))
    first = own.own(dataset, store)
    elsewhere = own.own(dataset, open_store(str(tmp_path / "elsewhere")))
    monkeypatch.setattr(fit, "fit", lambda *_: pytest.fail("fitted again"))
    again = open_extractor("own", {"own": lambda: own.own(dataset, store)})
    assert first.digest == again.digest == elsewhere.digest and len(first.digest) == 64
    np.testing.assert_array_equal(first.features(images(dataset)), again.features(images(dataset)))


@pytest.mark.parametrize("harm", ["altered", "cut", "gone"])
def test_weights_that_were_damaged_are_fitted_again(tmp_path, harm):
    dataset, store = opened(tmp_path, ("a", "b"))
    whole = own.own(dataset, store)
    (key,) = (entry.key for entry in store.list() if entry.key.endswith(".safetensors"))
    data = bytearray(store.read(key))
    data[-1] ^= 1
    store.replace(key, bytes(data if harm == "altered" else data[:-9]))
    if harm == "gone":
        store.delete(key)
    assert own.own(dataset, store).digest == whole.digest
    np.testing.assert_array_equal(own.own(dataset, store).features(images(dataset)), whole.features(images(dataset)))


def test_features_of_an_image_do_not_depend_on_its_company(tmp_path):
    dataset, store = opened(tmp_path)
    found, all_of_them = own.own(dataset, store), images(dataset)
    features = found.features(all_of_them)
    assert features.shape == (40, found.width) and features.dtype == np.float32 and features.std(0).max() > 0
    np.testing.assert_array_equal(found.features(all_of_them[35:]), features[35:])
    assert found.features(all_of_them[:0]).shape == (0, found.width)


def test_without_labels_it_learns_how_scans_are_turned(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(fit, "fit", lambda task, samples, *_: seen.update(samples=samples))
    dataset, store = opened(tmp_path)
    found = own.own(dataset, store)
    turned = seen["samples"]
    assert len(turned) == 320 and np.bincount(turned.label[:, 0]).tolist() == [80] * 4
    np.testing.assert_array_equal(turned.image[80], np.rot90(turned.image[0], 1, (1, 2)))
    assert found.classes == ()
    with pytest.raises(InputError, match="knows no classes"):
        found.probabilities(images(dataset))


def test_what_is_turned_is_a_square_in_the_middle():
    samples = _tall()
    assert own.turned(samples).image.shape == (8, 1, 16, 16)
    np.testing.assert_array_equal(own.turned(samples).image[0], samples.image[0, :, 4:20])


def test_with_labels_it_learns_the_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "IMAGES", 1600)
    dataset, store = opened(tmp_path, ("a", "b"))
    _inverted(monkeypatch)
    found = own.own(dataset, store)
    assert found.classes == ("a", "b")
    probabilities = found.probabilities(np.concatenate([-images(dataset), images(dataset)]))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    decided = probabilities.argmax(1)
    assert (decided[:40] == 1).mean() > 0.9 and (decided[40:] == 0).mean() > 0.9


def test_large_scans_are_made_small_for_it(tmp_path):
    dataset, store = opened(tmp_path, ("a", "b"), size=128)
    found = own.own(dataset, store)
    assert found.features(images(dataset)).shape == (40, found.width)
    assert fit.small_size((128, 96)) == (64, 48) and fit.small_size((1000, 20)) == (64, 8)
    assert fit.small_size((50, 64)) == (50, 64)
    stored = np.full((1, 1, 128, 96), 65535, np.uint16)
    assert (fit.shrunk(stored) == 65535).all() and fit.shrunk(stored).shape == (1, 1, 64, 48)


def _tall():
    draw = np.random.default_rng(0)
    return Samples(
        image=draw.integers(0, 65535, (2, 1, 24, 16), np.uint16),
        label=np.zeros((2, 1), np.int32),
        subject=np.arange(2, dtype=np.int32),
        attribute=np.zeros((2, 0), np.int16),
        spacing=np.zeros((2, 2), np.float32),
    )


def _inverted(monkeypatch):
    """Have scans of the second class be negatives: something that can be learned in a second."""
    gathered = fit.gathered

    def negatives(dataset, split):
        samples = gathered(dataset, split)
        second = samples.label[:, 0] == 1
        samples.image[second] = 65535 - samples.image[second]
        return samples

    monkeypatch.setattr(fit, "gathered", negatives)
