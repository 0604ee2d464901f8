"""A fit is a function of scans and seed, learns in its steps, and sees scans made small."""

import numpy as np
import pytest
import torch

from medgan_ray.artifacts.tensors import weights_sha256
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import InputError
from medgan_ray.evaluate import fit
from medgan_ray.tasks.protocol import PUBLISHED
from tests.builders import write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    write_dataset(folder, 96, {"train": 40, "val": 0}, ("a", "b"))
    return open_dataset(folder)


def fitted(dataset, samples, seed=0, images=64):
    task = fit.recognizer(dataset.manifest, fit.counts(samples.label[:, 0], 2), seed, fit.CLASSICAL)
    fit.fit(task, samples, images, seed, fit.CLASSICAL.probability)
    return weights_sha256(task.networks[PUBLISHED].state_dict()), task


def test_it_depends_on_scans_and_seed_alone(dataset):
    samples = fit.gathered(dataset, "train")
    first, _ = fitted(dataset, samples)
    torch.rand(3)
    assert fitted(dataset, samples)[0] == first
    assert fitted(dataset, samples, seed=1)[0] != first
    assert fitted(dataset, samples.rows(slice(1, None)))[0] != first


def test_it_learns_what_can_be_learned(dataset):
    samples = fit.gathered(dataset, "train")
    second = samples.label[:, 0] == 1
    samples.image[second] = 65535 - samples.image[second]
    _, task = fitted(dataset, samples, images=640)
    assert (task.answers(samples).argmax(1) == samples.label[:, 0]).mean() > 0.9


def test_scans_are_gathered_small_as_many_as_asked_for(dataset, monkeypatch):
    monkeypatch.setattr(fit.sets, "CHUNK", 16)
    whole = fit.gathered(dataset, "train")
    assert whole.image.shape == (40, 1, 64, 64) and whole.subject.tolist() == list(range(40))
    stored = dataset.split("train").take(np.arange(40)).image.astype(np.float64)
    np.testing.assert_allclose(whole.image.mean((1, 2, 3)), stored.mean((1, 2, 3)), rtol=0.01)
    assert len(fit.gathered(dataset, "train", 7)) == 7
    with pytest.raises(InputError, match="the split is empty"):
        fit.gathered(dataset, "val")


def test_classes_are_counted_without_those_unknown():
    assert fit.counts(np.array([0, 2, 2, -1], np.int32), 4) == (1, 0, 2, 0)
