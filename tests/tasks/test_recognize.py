"""What a recognizer learns from, what it says, and how that is judged."""

import numpy as np
import pytest
import torch

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.metrics import classify
from medgan_ray.models.augment import AugmentSettings
from medgan_ray.models.catalog import ModelSettings
from medgan_ray.tasks.protocol import PUBLISHED, Answers, Generates, Probed, Share, TrainSettings, Values
from medgan_ray.tasks.recognize import RecognizeTask
from tests.builders import write_dataset

MODEL = ModelSettings(name="residual", recognizer_width=8)
NOISY = AugmentSettings(shift=3, rotate_degrees=10, noise=0.1, cutout=0.3)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    write_dataset(folder, classes=("a", "b", "c"), counts={"train": 60})
    return open_dataset(folder).split("train")


def made(split, counts=(20, 20, 20), augment=NOISY, **train):
    settings = TrainSettings(precision="float64", **train)
    task = RecognizeTask(split.dataset.manifest, MODEL, settings, augment, 0, (counts,))
    for network in task.networks.values():
        torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(1))
    return task


def share(split, rows, unknown=()):
    samples = split.take(np.asarray(rows))
    samples.label[list(unknown)] = -1
    return Share(np.asarray(rows, np.int64), samples, 8, 0)


def loss(task, given, augment=0.0):
    return {
        name: value.item()
        for name, value in task.losses("recognizer", given, Values(1e-3, 0.9, 0, 0.5, augment)).items()
    }


def test_it_answers_and_neither_makes_images_nor_has_a_discriminator(split):
    task = made(split)
    assert isinstance(task, Answers) and not isinstance(task, Generates) and not isinstance(task, Probed)
    assert task.trained("recognizer") is task.networks["recognizer"] and PUBLISHED in task.networks


def test_a_share_of_the_batch_has_its_share_of_the_loss_augmented_or_not(split):
    task = made(split)
    for augment in (0.0, 0.5):
        whole = loss(task, share(split, range(8)), augment)
        parts = [loss(task, share(split, rows), augment) for rows in ([0, 2, 4, 6, 7], [1, 3, 5])]
        for name, value in whole.items():
            assert value == pytest.approx(sum(part[name] for part in parts), abs=1e-12)
    assert loss(task, share(split, range(8)), 0.5) != loss(task, share(split, range(8)))


def test_scans_of_unknown_class_are_left_out_of_the_loss(split):
    task = made(split)
    some = loss(task, share(split, range(8), unknown=(1, 4)))
    assert some == pytest.approx(loss(task, share(split, [0, 2, 3, 5, 6, 7])))
    nothing = task.losses("recognizer", share(split, [0], unknown=(0,)), Values(1e-3, 0.9, 0, 0.5, 0))
    (gradient,) = torch.autograd.grad(nothing["loss"], [task.networks["recognizer"].head.weight])
    assert nothing["loss"].item() == 0 and not gradient.any()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_loss_is_the_cross_entropy_of_logits_adjusted_by_prevalence(split, weight):
    task = made(split, counts=(30, 20, 10), augment=AugmentSettings(shift=0), logit_adjustment=weight)
    given = share(split, range(8))
    logits = torch.from_numpy(task.answers(given.samples)).double()
    adjusted = logits + weight * torch.log(torch.tensor([1 / 2, 1 / 3, 1 / 6]))
    expected = torch.nn.functional.cross_entropy(adjusted, torch.from_numpy(given.samples.label[:, 0]).long())
    assert loss(task, given)["loss"] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(task.networks[PUBLISHED].offset, adjusted[0] - logits[0], atol=1e-6)


def test_an_answer_is_the_same_among_any_scans(split):
    task = made(split)
    samples = split.take(np.arange(57))
    alone = np.concatenate([task.answers(samples.rows(slice(row, row + 1))) for row in range(0, 57, 8)])
    np.testing.assert_allclose(task.answers(samples)[::8], alone, rtol=1e-6)
    assert task.answers(samples).dtype == np.float32 and task.answers(samples.rows(slice(0, 0))).shape == (0, 3)


def test_figures_are_those_of_the_answers(split):
    task = made(split, counts=(30, 20, 10))
    known = split.known(np.arange(60))
    known.label[:4] = -1
    logits = np.random.default_rng(0).normal(0, 1, (60, 3)).astype(np.float32)
    found = task.figures(logits, known)
    labels, kept = known.label[4:, 0], logits[4:]
    natural = np.exp(kept) * [1 / 2, 1 / 3, 1 / 6]
    natural /= natural.sum(1, keepdims=True)
    equal = np.exp(kept) / np.exp(kept).sum(1, keepdims=True)
    assert found["balanced_accuracy"] == classify.balanced_accuracy(kept.argmax(1), labels)
    assert found["ece"] == pytest.approx(classify.calibration_error(natural, labels), abs=1e-6)
    assert found["auroc"] == pytest.approx(classify.macro_auroc(natural, labels))
    assert found["score"] == pytest.approx(classify.balanced_cross_entropy(equal, labels), rel=1e-6)
    assert found["majority_accuracy"] == (labels == 0).mean()
    assert found["balanced_accuracy_low"] < found["balanced_accuracy"] < found["balanced_accuracy_high"]
    assert {"sensitivity_a", "sensitivity_b", "sensitivity_c", "cross_entropy", "accuracy"} <= found.keys()


def test_too_few_scans_or_classes_say_nothing(split):
    task, known = made(split), split.known(np.arange(60))
    assert task.not_applicable(known) == ""
    assert task.not_applicable(known.rows(slice(0, 5))) == "holds 5 labeled scans of 3 classes, figures need 20 of 2"
    known.label[:] = 1
    assert task.not_applicable(known) == "holds 60 labeled scans of 1 class, figures need 20 of 2"
    known.label[:] = -1
    assert task.not_applicable(known) == "holds 0 labeled scans of 0 classes, figures need 20 of 2"
