"""A task's losses and gradients are sums over positions: any division of the batch gives the same."""

import dataclasses

import numpy as np
import pytest
import torch

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.models.augment import AugmentSettings
from medgan_ray.models.catalog import ModelSettings
from medgan_ray.tasks.generate import GenerateTask
from medgan_ray.tasks.protocol import Share, TrainSettings, Values
from tests.builders import write_dataset

VALUES = Values(lr=1e-3, beta2=0.9, gamma=2.0, ema_beta=0.5, augment=0.5)


@pytest.fixture
def task_and_split(tmp_path):
    manifest = write_dataset(str(tmp_path), classes=("normal", "lesion"))
    model = ModelSettings(generator_width=4, discriminator_width=4, latent=8)
    task = GenerateTask(manifest, model, TrainSettings(precision="float64"), AugmentSettings(), seed=1)
    return task, open_dataset(str(tmp_path)).split("train")


def gradients(task, split, phase, positions, step=0):
    share = Share(positions, split.take(positions), 8, step)
    losses = task.losses(phase, share, VALUES)
    found = torch.autograd.grad(losses["loss"], list(task.trained(phase).parameters()), materialize_grads=True)
    return float(losses["loss"].detach()), torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_shares_add_up_to_the_whole_batch(task_and_split, phase):
    task, split = task_and_split
    positions = np.arange(8)
    loss, gradient = gradients(task, split, phase, positions)
    parts = [gradients(task, split, phase, positions[rank::3]) for rank in range(3)]
    assert sum(part[0] for part in parts) == pytest.approx(loss, abs=1e-12)
    torch.testing.assert_close(sum(part[1] for part in parts), gradient, rtol=0, atol=1e-12)


def test_the_penalty_is_taken_every_fourth_step_four_times_as_heavy(task_and_split):
    task, split = task_and_split
    positions = np.arange(8)
    heavy, light = (
        task.losses("discriminator", Share(positions, split.take(positions), 8, step), VALUES) for step in (0, 1)
    )
    assert float(light["penalty"].detach()) == 0.0
    assert float((heavy["loss"] - heavy["adversarial"] - 4 * heavy["penalty"]).detach()) == pytest.approx(0, abs=1e-12)


def test_the_average_follows_the_generator(task_and_split):
    task, _ = task_and_split
    with torch.no_grad():
        for parameter in task.networks["generator"].parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in task.networks["average"].parameters()]
    task.after_step(VALUES)
    for old, new in zip(before, task.networks["average"].parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_previews_do_not_depend_on_their_batch(task_and_split):
    task, _ = task_and_split
    labels = np.zeros((60, 1), np.int32)
    whole = task.sample(np.arange(60), labels)
    np.testing.assert_allclose(task.sample(np.arange(55, 60), labels[:5]), whole[55:], atol=1e-6)
    assert whole.dtype == np.float32 and np.abs(whole).max() <= 1


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating", "hinge"])
@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_shares_add_up_under_every_loss_and_network(tmp_path, loss, phase):
    manifest = write_dataset(str(tmp_path), classes=("normal", "lesion"))
    model = ModelSettings(name="stylegan2", generator_width=4, discriminator_width=4, latent=8)
    settings = TrainSettings(precision="float64", loss=loss)
    task = GenerateTask(manifest, model, settings, AugmentSettings(), seed=1)
    split = open_dataset(str(tmp_path)).split("train")
    loss_of_all, gradient = gradients(task, split, phase, np.arange(8))
    parts = [gradients(task, split, phase, np.arange(8)[rank::3]) for rank in range(3)]
    assert sum(part[0] for part in parts) == pytest.approx(loss_of_all, abs=1e-12)
    torch.testing.assert_close(sum(part[1] for part in parts), gradient, rtol=0, atol=1e-10)


def test_without_a_weight_there_is_no_penalty(task_and_split):
    task, split = task_and_split
    share = Share(np.arange(8), split.take(np.arange(8)), 8, 0)
    losses = task.losses("discriminator", share, dataclasses.replace(VALUES, gamma=0.0))
    assert float(losses["penalty"].detach()) == 0.0
    assert torch.equal(losses["loss"], losses["adversarial"])
