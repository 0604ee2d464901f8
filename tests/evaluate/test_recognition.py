"""Figures of a recognizer mean what they say, and the gate refuses what can't be relied on, each for its own reason."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as peers

from medgan_ray.artifacts.calibration import OfSet
from medgan_ray.dataset.manifest import LabelSet
from medgan_ray.evaluate import recognition, recognition_words
from medgan_ray.evaluate.answered import Said
from medgan_ray.evaluate.gate import RECOGNIZERS, judge, read_rules
from medgan_ray.metrics import calibrate

LABELS = LabelSet(name="finding", classes=("none", "cyst", "tumor"))
N, DRAWS = 240, 40
NO_ATTRIBUTES = np.zeros((N, 0), np.int16)


def said(n=N, *, knows=2.0, sure=1.0, blind=False, patients=100, least=0.1, attributes=None, pixels=0.5):
    """Return what a recognizer says that knows so much, and is so much surer than it may be."""
    draw = np.random.default_rng(3)
    known = draw.integers(0, 3, n)
    logits = draw.normal(0, 1, (n, 3)) + knows * np.eye(3)[known]
    if blind:
        logits = np.tile([1.0, 0.0, 0.0], (n, 1))
    exact = knows if not blind else 1.0
    after = calibrate.equally(logits * exact * sure, 1.0)
    shown = calibrate.equally(draw.normal(0, 1, (n, 3)) + pixels * np.eye(3)[known], 1.0)
    fitted = OfSet(name="finding", temperature=1.0, least=least, scans=patients, patients=patients)
    return Said(
        labels=LABELS,
        index=np.arange(n),
        known=known,
        groups=np.arange(n) // 2,
        attributes=np.zeros((n, 0), np.int16) if attributes is None else attributes,
        before=calibrate.equally(logits * exact * sure * 2, 1.0),
        after=after,
        balanced=after,
        named=after.argmax(1),
        held=calibrate.members(after, least),
        foreign=np.zeros(n, bool),
        pixels=shown,
        counts=(50, 30, 20),
        fitted=fitted,
        coverage=0.9,
    )


def figures(found, attributes=()):
    return recognition.figures_of(found, attributes, DRAWS)


def refused(found):
    named = {f"recognition.{key}": figure for key, figure in figures(found).items()}
    return {ruling.name for ruling in judge(named, read_rules("", RECOGNIZERS)).failed}


def test_a_recognizer_that_can_be_relied_on_passes():
    assert refused(said()) == set()


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"blind": True, "pixels": 0.0}, "better than guessing"),
        ({"knows": 0.8, "pixels": 3.0}, "no worse than pixels"),
        ({"sure": 6.0}, "calibration"),
        ({"least": 0.6}, "coverage"),
    ],
)
def test_each_fault_is_refused_for_what_it_is(changed, broken):
    assert broken in refused(said(**changed))


def test_what_was_not_measured_is_refused():
    rules = {ruling.name for ruling in judge({}, read_rules("", RECOGNIZERS)).failed}
    assert rules == {"better than guessing", "no worse than pixels", "calibration", "coverage"}
    few = said()
    cut = {name: getattr(few, name)[:12] for name in ("index", "known", "groups", "attributes", "before", "after")}
    cut |= {name: getattr(few, name)[:12] for name in ("balanced", "named", "held", "foreign", "pixels")}
    assert refused(dataclasses.replace(few, **cut)) == rules
    uncalibrated = dataclasses.replace(said(), fitted=None, coverage=float("nan"))
    assert refused(uncalibrated) == {"coverage"}
    assert figures(uncalibrated)["coverage"].not_applicable.startswith("not calibrated")


def test_figures_are_scikit_learns_and_have_intervals_of_patients():
    given = said()
    found = figures(given)
    known, named = given.known, given.named
    expected = {
        "accuracy": peers.accuracy_score(known, named),
        "balanced_accuracy": peers.balanced_accuracy_score(known, named),
        "auroc": peers.roc_auc_score(known, given.after, multi_class="ovr"),
        "nll": peers.log_loss(known, given.after),
        "sensitivity[class=cyst]": peers.recall_score(known == 1, named == 1),
        "specificity[class=cyst]": peers.recall_score(known != 1, named != 1),
        "over_pixels": peers.balanced_accuracy_score(known, named)
        - peers.balanced_accuracy_score(known, given.pixels.argmax(1)),
        "over_majority": peers.balanced_accuracy_score(known, named) - 1 / 3,
        "majority.accuracy": (known == 0).mean(),
        "answered": (given.held.sum(1) == 1).mean(),
        "set_size": given.held.sum(1).mean(),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
    for name, figure in found.items():
        assert figure.low <= figure.value <= figure.high, name
    assert (
        found["sensitivity[class=cyst]"].n == (known == 1).sum() and found["error_answered"].n == given.answered.sum()
    )
    assert found["error[answered=50%]"].n == N // 2 and found["error[answered=50%]"].value < found["error"].value
    assert found["promise"].n == 100 and found["promise"].low < 0.9 < found["promise"].high
    assert found["ece_debiased_before"].value > found["ece_debiased"].value
    missing = {name.partition("[")[0] for name in found} ^ recognition.MEANINGS.keys()
    assert not missing, "each figure has a meaning, and each meaning a figure"


def test_a_patient_counts_once_in_the_coverage():
    """One patient of a hundred scans, all held; ninety of one scan, of which half are."""
    given = said()
    groups = np.concatenate([np.zeros(150, int), np.arange(1, 91)])
    held = np.zeros((N, 3), bool)
    held[np.arange(N), given.known] = (groups == 0) | (groups % 2 == 0)
    found = figures(dataclasses.replace(given, groups=groups, held=held))
    assert found["coverage"].value == pytest.approx(46 / 91)
    assert found["over_promise"].high < 0


def test_an_interval_is_no_narrower_than_that_of_so_few_patients():
    given = said(knows=9.0)
    found = figures(given)["sensitivity[class=tumor]"]
    assert found.value == 1 and found.high == 1 and 0.9 < found.low < 0.97


def test_a_small_group_is_named_as_such():
    attributes = np.array([[0]] * 200 + [[1]] * 20 + [[-1]] * 20, np.int16)
    found = figures(said(attributes=attributes), ("sex",))
    groups = {name.partition("[")[2] for name in found if name.startswith("accuracy[")}
    assert len(groups) == 2
    told = [found[name] for name in found if name.startswith("accuracy[")]
    assert [figure.n for figure in told] == [200, 20] and told[0].value is not None
    assert told[1].value is None and told[1].not_applicable == "a small group: 20 scans, 50 are needed"


def test_sentences_claim_no_more_than_the_intervals_hold():
    sound = said()
    told = recognition_words.sentence(sound, figures(sound))
    assert (
        "Calibrated on 100 scans of 100 patients: sets meant to hold the true class in 90 % of scans"
        in told.replace("90%", "90 %")
    )
    assert "It is better than a linear model of raw pixels" in told and "promise is not kept" not in told
    even = said(knows=1.0, pixels=1.0)
    assert "It is not shown to be better than" in recognition_words.sentence(even, figures(even))
    narrow = said(least=0.6)
    assert "the promise is not kept" in recognition_words.sentence(narrow, figures(narrow))
    few = said(patients=5, least=0.0)
    assert "too few for sets that hold the true class in" in recognition_words.promise(few)
    assert "not calibrated" in recognition_words.promise(dataclasses.replace(few, fitted=None))


def test_details_are_curves_and_counts():
    given = said()
    found = recognition.details_of(given)
    assert np.array_equal(found["confusion"], peers.confusion_matrix(given.known, given.named))
    assert sum(each["scans"] for each in found["reliability"]["after"]) == N
    assert found["risk"][-1]["error"] == pytest.approx((given.named != given.known).mean(), abs=1e-6)
    assert (found["calibration"]["patients"], found["calibration"]["coverage"]) == (100, 0.9)
