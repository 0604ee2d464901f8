"""A calibration comes back as it was written, for its own weights alone, and one that is damaged is named."""

import numpy as np
import pytest

from medgan_ray.artifacts import calibration
from medgan_ray.artifacts.calibration import Calibration, OfSet
from medgan_ray.errors import InputError
from medgan_ray.store import open_store

FACTS = Calibration(
    weights="ab" * 32,
    coverage=0.9,
    least_p=0.01,
    sets=(
        OfSet(name="side", temperature=1.25, least=0.125, scans=40, patients=30),
        OfSet(name="disease", temperature=0.5, least=0.0, scans=0, patients=0),
    ),
)


@pytest.fixture
def written(tmp_path):
    store, draw = open_store(str(tmp_path)), np.random.default_rng(0)
    # A transposed view: what is written is the values, not their place in memory.
    tensors = {"mean": draw.normal(size=4), "whitening": draw.normal(size=(4, 4)).T, "distances": np.arange(7.0)}
    calibration.write(store, FACTS, tensors)
    return store, tensors


def test_it_comes_back_as_it_was(written):
    store, tensors = written
    facts, found = calibration.read(store, FACTS.weights)
    assert facts == FACTS and found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert found[name].dtype == np.float64 and np.array_equal(found[name], values)


def test_beside_other_weights_it_is_none(written, tmp_path):
    assert calibration.read(written[0], "cd" * 32) is None
    assert calibration.read(open_store(str(tmp_path / "empty")), FACTS.weights) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:40],
        lambda data: data.replace(b"temperature", b"temperatura"),
        lambda data: data.replace(b"medgan", b"nadgem"),
    ],
)
def test_a_damaged_file_is_named(written, damage):
    store, _ = written
    store.replace(calibration.FILE, damage(store.read(calibration.FILE)))
    with pytest.raises(InputError, match=r"the calibration is corrupt \(.*calibration\.safetensors\)"):
        calibration.read(store, FACTS.weights)
