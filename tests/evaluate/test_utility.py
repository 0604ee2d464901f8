"""Whether generated scans help: the same steps, the same patients, gone on with where it stopped, little claimed."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.shards import Samples
from medgan_ray.evaluate import fit, utility
from medgan_ray.evaluate.utility import Scans, thinned
from medgan_ray.store import open_store
from tests.builders import write_dataset

CLASSES = ("a", "b")


def drawn(count, seed, labels=None, subjects=None):
    """Return scans of noise, those of the second class with a bright left half."""
    draw = np.random.default_rng(seed)
    label = np.arange(count, dtype=np.int32) % 2 if labels is None else np.asarray(labels, np.int32)
    image = draw.integers(0, 30000, (count, 1, 16, 16), np.uint16)
    image[label == 1, :, :, :8] += 30000
    return Samples(
        image=image,
        label=label[:, None],
        subject=np.arange(count, dtype=np.int32) if subjects is None else np.asarray(subjects, np.int32),
        attribute=np.zeros((count, 0), np.int16),
        spacing=np.full((count, 2), np.nan, np.float32),
    )


@pytest.fixture
def manifest(tmp_path):
    write_dataset(str(tmp_path / "data"), 16, {"train": 8}, CLASSES)
    return open_dataset(str(tmp_path / "data")).manifest


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "kept"))


def given(**changed):
    return dataclasses.replace(Scans(drawn(40, 0), drawn(30, 1), drawn(60, 2)), **changed)


class Planned:
    """A recognizer that is right about a share of the scans, which a test plans by how many it was shown."""

    skills: ClassVar[dict[int | str, float]] = {}

    def __init__(self, manifest, of_class, seed, augment):
        self.skill = self.skills[sum(of_class)]
        if augment is fit.CLASSICAL:
            self.skill = self.skills["augmented"]

    def answers(self, samples):
        labels = samples.label[:, 0]
        right = np.arange(len(labels)) % 10 < 10 * self.skill
        return 3 * np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]


@pytest.fixture
def planned(monkeypatch):
    """Let a test say how good each way is."""
    monkeypatch.setattr(fit, "recognizer", Planned)
    monkeypatch.setattr(fit, "fit", lambda *given: None)

    def plan(**skills):
        known = {"real": 40, "synthetic": 60, "mixed": 100, "augmented": "augmented"}
        monkeypatch.setattr(Planned, "skills", {known[name]: skill for name, skill in skills.items()})

    return plan


def test_recognizers_are_fitted_both_ways_and_asked_about_the_test_scans(manifest, store):
    seen = []
    found = utility.utility(manifest, given(), store, images=256, draws=20, progress=lambda *at: seen.append(at))
    assert seen == [(done, 6) for done in range(1, 7)]
    names = {
        "gain",
        "trts",
        *(f"{way}.{name}" for way in ("real", "mixed") for name in ("auroc", "ece", "sensitivity_a")),
    }
    assert {f"utility.{name}" for name in names} <= found.figures.keys()
    assert found.figures["utility.mixed.auroc"].value > 0.9 and found.figures["utility.trts"].value > 0.8
    gain = found.figures["utility.gain"]
    assert gain.low <= gain.value <= gain.high and gain.n == 30
    difference = [found.figures[f"utility.{way}.balanced_accuracy"].value for way in ("mixed", "real")]
    assert gain.value == pytest.approx(difference[0] - difference[1])


def test_it_goes_on_where_it_stopped_and_begins_anew_for_other_scans(manifest, store, planned, monkeypatch):
    planned(real=0.6, mixed=0.7)
    fits = []
    monkeypatch.setattr(fit, "fit", lambda task, samples, images, seed, augment: fits.append((len(samples), seed)))

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        utility.utility(manifest, given(), store, draws=20, progress=stop)
    assert fits == [(40, 0), (100, 0), (40, 1), (100, 1)]
    first = utility.utility(manifest, given(), store, draws=20)
    assert fits[4:] == [(40, 2), (100, 2)]
    assert utility.utility(manifest, given(), store, draws=20) == first and len(fits) == 6
    utility.utility(manifest, given(synthetic=drawn(60, 3)), store, draws=20)
    assert len(fits) == 12


@pytest.mark.parametrize(
    ("real", "mixed", "said"),
    [
        (0.5, 0.8, "Generated scans, added to the real ones, did better than the real ones alone (+"),
        (0.8, 0.5, "Generated scans, added to the real ones, did worse than the real ones alone (-"),
        (
            0.7,
            0.7,
            "Generated scans, added to the real ones, were not shown to differ from the real ones alone (+0.0 to",
        ),
    ],
)
def test_the_sentence_claims_what_the_interval_holds(manifest, store, planned, real, mixed, said):
    planned(real=real, mixed=mixed)
    found = utility.utility(manifest, given(), store, draws=60)
    assert found.figures["utility.gain"].value == pytest.approx(mixed - real, abs=0.01)
    assert found.sentence.startswith(said)
    assert found.sentence.endswith(
        "Duplicated scans and classical augmentation were not tried (evaluate.utility=full)."
    )


def test_all_ways_are_compared_also_with_a_tenth(manifest, store, planned, monkeypatch):
    planned(real=0.5, mixed=0.8, synthetic=0.6, augmented=0.9)
    Planned.skills |= {4: 0.5, 64: 0.8}
    monkeypatch.setattr(utility, "thinned", lambda samples: samples.rows(np.arange(4)))
    found = utility.utility(manifest, given(), store, utility.MODES["full"], draws=20)
    value = {name: figure.value for name, figure in found.figures.items()}
    assert value["utility.augmented.balanced_accuracy"] == pytest.approx(0.9, abs=0.02)
    assert value["utility.over_augmented"] == pytest.approx(-0.1, abs=0.02)
    assert value["utility.over_duplicated"] == 0, "as many scans as mixed"
    assert value["utility.gain_on_augmented"] == 0, "equally good under augmentation"
    assert value["utility.gain.sensitivity_a"] == pytest.approx(0.2, abs=0.02), "right about 0.4, then 0.6"
    assert value["utility.tenth.gain"] == pytest.approx(0.3, abs=0.02)
    assert value["utility.synthetic.balanced_accuracy"] == pytest.approx(0.6, abs=0.02)
    for words in (
        "They were not shown to differ from as many real scans again",
        "They did worse than classical augmentation",
        "With a tenth of the real scans (by a generator that had seen all of them, which favors it): generated scans",
    ):
        assert words in found.sentence
    assert len(store.list()) == 70
    own = utility.utility(manifest, given(of_tenth=drawn(60, 9)), store, utility.MODES["full"], draws=20)
    assert "favors" not in own.sentence


def test_the_ways_are_shown_what_they_say(manifest, store, monkeypatch):
    shown = {}
    monkeypatch.setattr(utility, "MODES", {"full": utility.Plan(utility.WAYS, 1)})

    def remember(task, samples, images, seed, augment):
        shown.setdefault(len(shown), (samples, images, augment))

    monkeypatch.setattr(fit, "fit", remember)
    scans = given(synthetic=drawn(60, 2, labels=[0] * 45 + [1] * 15))
    utility.utility(manifest, scans, store, utility.MODES["full"], images=640, draws=20)
    sizes = [(len(samples), images) for samples, images, _ in shown.values()]
    assert sizes == [(40, 640), (40, 640), (100, 640), (100, 640), (60, 640), (60, 320), (40, 320), (100, 640)]
    assert [augment > 0 for _, _, augment in shown.values()] == [False, True, *[False] * 5, True]
    duplicated, mixed = shown[2][0], shown[3][0]
    assert np.bincount(duplicated.label[:, 0]).tolist() == np.bincount(mixed.label[:, 0]).tolist() == [65, 35]
    assert {image.tobytes() for image in duplicated.image} == {image.tobytes() for image in scans.real.image}


def test_scans_are_thinned_by_patients_and_keep_each_class():
    samples = drawn(200, 0, labels=[0] * 190 + [1] * 10, subjects=np.arange(200) // 5)
    few = thinned(samples)
    assert 15 <= len(few) <= 25 and set(few.label[:, 0].tolist()) == {0, 1}
    kept = set(few.subject.tolist())
    assert len(few) == 5 * len(kept)
    np.testing.assert_array_equal(few.subject, thinned(samples).subject)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"test": drawn(19, 1)}, "19 test scans of 2 known classes, 20 of 2 are needed"),
        ({"synthetic": drawn(60, 1, labels=[-1] * 60)}, "0 generated scans of 0 known classes, 20 of 1 are needed"),
        ({"real": drawn(40, 1, labels=[-1] * 40)}, "0 training scans of 0 known classes, 20 of 2 are needed"),
    ],
)
def test_what_would_say_nothing_is_not_measured(manifest, store, changed, why):
    found = utility.utility(manifest, given(**changed), store)
    assert found.figures["utility.gain"].not_applicable == why and found.sentence == f"Not measured: {why}."
    assert not store.list()
