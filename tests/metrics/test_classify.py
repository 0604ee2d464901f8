"""Figures of classes agree with scikit-learn's, or with formulas written out, and mean what they say at the ends."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as peers
from sklearn.calibration import calibration_curve
from torchmetrics.functional import classification as functional

from medgan_ray.errors import InputError
from medgan_ray.metrics import classify

CLASSES = ("a", "b", "c", "d")


def drawn_by(seed):
    """Return probabilities that know something of 200 labels of unequal classes, with ties."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(4, 200, p=[0.6, 0.25, 0.1, 0.05])
    logits = draw.normal(0, 1, (200, 4)).round(1) + 1.5 * np.eye(4)[labels] * draw.integers(0, 2, (200, 1))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


@pytest.fixture(params=[0, 1, 2])
def drawn(request):
    return drawn_by(request.param)


def test_figures_are_scikit_learns(drawn):
    probabilities, labels = drawn
    decided = probabilities.argmax(1)
    recalls = peers.recall_score(labels, decided, average=None)
    np.testing.assert_allclose(classify.sensitivities(decided, labels, 4), recalls, atol=1e-12)
    expected = {
        classify.accuracy(decided, labels): peers.accuracy_score(labels, decided),
        classify.balanced_accuracy(decided, labels): peers.balanced_accuracy_score(labels, decided),
        classify.macro_auroc(probabilities, labels): peers.roc_auc_score(labels, probabilities, multi_class="ovr"),
        classify.cross_entropy(probabilities, labels): peers.log_loss(labels, probabilities),
        classify.balanced_cross_entropy(probabilities, labels): peers.log_loss(
            labels, probabilities, sample_weight=1 / np.bincount(labels)[labels]
        ),
    }
    for ours, theirs in expected.items():
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_precision_specificity_brier_and_confusion_are_scikit_learns_and_torchmetrics(drawn):
    probabilities, labels = drawn
    decided = probabilities.argmax(1)
    said, known = torch.from_numpy(probabilities), torch.from_numpy(labels)
    area = peers.average_precision_score(np.eye(4)[labels], probabilities, average="macro")
    assert classify.macro_auprc(probabilities, labels) == pytest.approx(area, abs=1e-12)
    theirs = functional.multiclass_average_precision(said, known, 4, average="macro", thresholds=None)
    assert classify.macro_auprc(probabilities, labels) == pytest.approx(float(theirs), abs=1e-6)
    theirs = functional.multiclass_auroc(said, known, 4, average="macro", thresholds=None)
    assert classify.macro_auroc(probabilities, labels) == pytest.approx(float(theirs), abs=1e-6)
    theirs = functional.multiclass_specificity(torch.from_numpy(decided), known, 4, average="none").numpy()
    np.testing.assert_allclose(classify.specificities(decided, labels, 4), theirs, atol=1e-6)
    theirs = functional.multiclass_calibration_error(said, known, 4, n_bins=15, norm="l1")
    assert classify.calibration_error(probabilities, labels) == pytest.approx(float(theirs), abs=1e-6)
    assert classify.brier(probabilities, labels) == pytest.approx(
        ((probabilities - np.eye(4)[labels]) ** 2).sum(1).mean(), abs=1e-12
    )
    np.testing.assert_array_equal(
        classify.confusion(decided, labels, 4), peers.confusion_matrix(labels, decided, labels=range(4))
    )


@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_that_of_the_reliability_diagram(drawn, bins):
    probabilities, labels = drawn
    surest, right = probabilities.max(1), probabilities.argmax(1) == labels
    shares, means = calibration_curve(right, surest, n_bins=bins)
    counts = np.histogram(surest, np.linspace(0, 1, bins + 1))[0]
    weights = counts[counts > 0] / len(labels)
    assert classify.calibration_error(probabilities, labels, bins) == pytest.approx(
        (weights * abs(shares - means)).sum()
    )


def test_the_ends_are_what_they_should_be():
    labels = np.array([0, 0, 0, 1, 2, 2])
    sure = np.eye(3)[labels]
    assert classify.balanced_accuracy(labels, labels) == classify.macro_auroc(sure, labels) == 1
    assert classify.calibration_error(sure, labels) == classify.cross_entropy(sure, labels) == 0
    assert classify.balanced_accuracy(np.zeros(6, int), labels) == pytest.approx(1 / 3)
    assert classify.auroc(np.ones(6), labels == 0) == 0.5
    assert classify.auroc([3, 2, 1], [False, False, True]) == 0
    assert classify.brier(sure, labels) == 0 and classify.macro_auprc(sure, labels) == 1
    assert classify.average_precision(np.ones(6), labels == 0) == 0.5, "chance is the positives' share"
    assert math.isnan(classify.average_precision([1.0, 2.0], [True, True]))
    wrong = np.eye(3)[(labels + 1) % 3]
    assert classify.brier(wrong, labels) == 2
    assert classify.calibration_error(wrong, labels) == 1 and math.isfinite(classify.cross_entropy(wrong, labels))


def test_a_class_that_is_not_there_has_no_part_in_a_mean():
    labels, probabilities = np.array([0, 0, 3, 3]), np.full((4, 4), 0.25)
    probabilities[:, 3] += [0, 0, 0.1, 0.1]
    assert math.isnan(classify.sensitivities(labels, labels, 4)[1])
    assert classify.balanced_accuracy(np.array([0, 1, 3, 3]), labels) == 0.75
    assert classify.macro_auroc(probabilities, labels) == 0.75, "class 3 is told apart, class 0 is not"
    assert math.isnan(classify.auroc([1.0, 2.0], [True, True]))
    empty = np.empty(0, int)
    for figure in (classify.accuracy, classify.balanced_accuracy):
        assert math.isnan(figure(empty, empty))


def test_another_prevalence_is_bayes_rule():
    np.testing.assert_allclose(
        classify.at_prevalence(np.array([[0.5, 0.5], [0.9, 0.1]]), [0.1, 0.9]), [[0.1, 0.9], [0.5, 0.5]]
    )


def test_intervals_cover_the_figure_and_widen_where_patients_have_several_scans():
    probabilities, labels = drawn_by(0)
    decided = probabilities.argmax(1)
    alone = classify.intervals(probabilities, decided, labels, np.arange(200), CLASSES, draws=60)
    assert set(alone) == {"accuracy", "balanced_accuracy", "auroc", "ece", *(f"sensitivity_{name}" for name in CLASSES)}
    for name, figure in alone.items():
        assert figure.low <= figure.value <= figure.high or name == "ece", "a calibration error is biased upwards"
    assert alone["sensitivity_d"].n == (labels == 3).sum() and alone["auroc"].n == 200
    rows = np.tile(np.arange(200), 8)
    many = [probabilities[rows], decided[rows], labels[rows]]
    naive = classify.intervals(*many, np.arange(1600), CLASSES, draws=60)["accuracy"]
    grouped = classify.intervals(*many, rows, CLASSES, draws=60)["accuracy"]
    assert (grouped.low, grouped.high) == (alone["accuracy"].low, alone["accuracy"].high)
    assert grouped.high - grouped.low > 2 * (naive.high - naive.low)


def test_what_cannot_be_said_is_said():
    probabilities, _ = drawn_by(0)
    only = classify.intervals(
        probabilities, probabilities.argmax(1), np.zeros(200, int), np.arange(200), CLASSES, draws=20
    )
    assert only["auroc"].value is None and only["auroc"].not_applicable == "too few scans of a class"
    assert only["sensitivity_b"].value is None and only["sensitivity_a"].value is not None
    with pytest.raises(InputError, match="give \\[3, 4\\]"):
        classify.intervals(probabilities, np.zeros(3, int), np.zeros(3, int), np.arange(3), CLASSES)


def test_two_ways_are_compared_on_the_same_scans():
    draw = np.random.default_rng(0)
    first = draw.random(100) < 0.5
    second = first | (draw.random(100) < 0.1)
    found = classify.paired_difference(
        lambda rows: second[rows].mean(), lambda rows: first[rows].mean(), np.arange(100)
    )
    assert found.value == pytest.approx(second.mean() - first.mean()) and 0 <= found.low <= found.value <= found.high
    assert found.high - found.low < 0.15, "apart, each is uncertain by 0.2"
