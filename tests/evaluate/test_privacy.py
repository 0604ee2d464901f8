"""The audit tells copies of training scans from all that are none, and says itself where it can't be believed."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from medgan_ray.errors import InputError
from medgan_ray.evaluate import privacy
from medgan_ray.evaluate.gate import judge, read_rules
from medgan_ray.evaluate.privacy import NAMES, Population, audit
from medgan_ray.metrics.neighbors import Nearest, chunked, nearest_images

SIZE = 32
RULES = {name: rule for name, rule in read_rules().items() if rule.figure.startswith("privacy.")}


def phantoms(patients, seed):
    """Two scans of each patient, alike but not the same, float32 [2 * patients, 1, 32, 32] in [-1, 1]."""
    draw = np.random.default_rng(seed)
    shared, own = draw.normal(0, 1, (patients, 1, SIZE, SIZE)), draw.normal(0, 0.1, (2 * patients, 1, SIZE, SIZE))
    smooth = gaussian_filter(np.repeat(shared, 2, 0) + own, (0, 0, 2, 2))
    return (smooth / np.abs(smooth).max((1, 2, 3), keepdims=True)).astype(np.float32)


TRAIN, HELD_OUT, OTHERS = phantoms(70, 1), phantoms(60, 2), phantoms(120, 3)[::2]
SIDES = (
    Population(chunked(TRAIN, 50), np.arange(140) // 2),
    Population(chunked(HELD_OUT, 50), 70 + np.arange(120) // 2),
)


def leaked(images):
    """Copies, each shifted by a pixel and noisier, every other one mirrored."""
    noise = np.random.default_rng(8).normal(0, 0.01, images.shape).astype(np.float32)
    copies = np.roll(images, (1, -1), (2, 3)) + noise
    copies[::2] = copies[::2, :, :, ::-1]
    return copies


def pooled(images):
    """Features that see coarse brightness, shifts hardly."""
    return images.reshape(len(images), 8, SIZE // 8, 8, SIZE // 8).mean((2, 4)).reshape(len(images), 64)


def verdict(found):
    """What the gate that comes with the package says of an audit."""
    return judge({f"privacy.{name}": figure for name, figure in found.figures.items()}, RULES)


@pytest.fixture(scope="module")
def sound():
    return audit(OTHERS, *SIDES, extract=pooled)


@pytest.fixture(scope="module")
def copied():
    return audit(np.concatenate([OTHERS[:20], leaked(TRAIN[:100])]), *SIDES)


def test_a_sound_generator_passes_with_every_figure_beside_its_control(sound):
    assert not sound.broken and verdict(sound).passed
    assert set(sound.figures) == set(NAMES)
    figures = sound.figures
    assert figures["copies"].value == 0 and figures["copies"].n == 120 and 0 < figures["copies"].high < 0.05
    assert figures["canary"].value >= 0.9 and figures["canary_others"].value == 0
    assert figures["ratio"].low < 1.02 and figures["ratio"].high > 0.98 and figures["distinct"].value > 0.9
    for name in ("copies", "ratio", "nearer", "distinct", "membership_distance"):
        assert figures[name].floor is not None and figures[name].low <= figures[name].value <= figures[name].high
    assert any("membership_distance does no better" in remark for remark in sound.remarks)


def test_copies_of_training_scans_are_counted_and_refused(copied):
    assert copied.figures["copies"].value > 0.7 and copied.figures["copies"].floor == 0
    assert copied.figures["membership_distance"].low > copied.figures["membership_distance_others"].high
    assert any("membership_distance does better" in remark for remark in copied.remarks)
    assert {"copies", "membership"} <= {ruling.name for ruling in verdict(copied).failed}


def test_the_worst_pairs_name_what_was_copied(copied):
    worst = copied.pairs[0]
    assert worst.copy and worst.ratio < 0.5 and worst.distance < worst.held_out_distance
    assert all(pair.generated - 20 == pair.trained for pair in copied.pairs)
    assert (copied.pixels.trained.index[20:] == np.arange(100)).mean() > 0.95


def test_copies_of_held_out_patients_are_not_memorized():
    found = audit(leaked(HELD_OUT), *SIDES)
    assert not found.broken and found.figures["copies"].value == 0
    assert found.figures["ratio"].value > 1.5 and found.figures["membership_distance"].value < 0.3
    assert {ruling.name for ruling in verdict(found).failed} <= {"variety"}  # few scans, each copied many times


def test_noise_copies_nothing():
    noise = np.random.default_rng(0).normal(0, 0.4, OTHERS.shape).clip(-1, 1).astype(np.float32)
    found = audit(noise, *SIDES)
    assert not found.broken and found.figures["copies"].value == 0 and found.figures["distinct"].value == 1


@pytest.mark.parametrize("image", [OTHERS[3:4], np.full((1, 1, SIZE, SIZE), 0.3, np.float32)])
def test_a_single_image_is_not_distinct(image):
    found = audit(np.repeat(image, 100, 0), *SIDES)
    assert found.figures["distinct"].value == 0 and found.figures["distinct"].floor > 0.9


def unshifted(queries, among, groups=None):
    """A search that knows neither shifts nor mirror images nor contrast."""
    return privacy.nearest_features(
        queries.reshape(len(queries), -1), lambda: (chunk.reshape(len(chunk), -1) for chunk in among()), groups
    )


def halfway(queries, among, groups=None):
    """A search that stops early."""
    found = nearest_images(queries, among, groups)
    late = found.index > 40
    return Nearest(np.where(late, np.float32(1), found.distance), np.where(late, 0, found.index))


def displaced(queries, among, groups=None):
    """A search that mixes up who asked."""
    found = nearest_images(queries, among, groups)
    return Nearest(np.roll(found.distance, 1), np.roll(found.index, 1))


def zero(queries, among, groups=None):
    """A search that finds everything everywhere."""
    return Nearest(np.zeros(len(queries), np.float32), np.zeros(len(queries), np.int64))


@pytest.mark.parametrize("fault", [unshifted, halfway, displaced, zero])
def test_a_broken_search_is_reported_and_refused(monkeypatch, fault):
    monkeypatch.setattr(privacy, "nearest_images", fault)
    found = audit(OTHERS, *SIDES)
    assert "planted" in found.broken and found.figures["canary"].value < 0.9
    assert "broken" in found.figures["copies"].not_applicable and found.figures["copies"].value is None
    assert found.pixels is None and not found.pairs
    assert {ruling.name for ruling in verdict(found).failed} == set(RULES)


def test_a_search_that_takes_held_out_copies_for_memorized_ones_is_reported(monkeypatch):
    def mixed(queries, among, groups=None):
        everything = np.concatenate([TRAIN, HELD_OUT])
        found = nearest_images(queries, chunked(everything))
        is_train = len(next(iter(among()))) and sum(map(len, among())) == len(TRAIN)
        return found if is_train else Nearest(found.distance + 1, np.zeros_like(found.index))

    monkeypatch.setattr(privacy, "nearest_images", mixed)
    assert audit(OTHERS, *SIDES).broken


def test_splits_that_share_scans_or_patients_are_no_ground_for_an_audit():
    twins = Population(chunked(np.concatenate([TRAIN, HELD_OUT[:100]])), np.arange(240) // 2 + 500)
    assert "as alike as copies" in audit(OTHERS, twins, SIDES[1]).broken
    same = dataclasses.replace(SIDES[1], subjects=np.arange(120) // 2)
    found = audit(OTHERS, SIDES[0], same)
    assert "60 patients are both" in found.broken and not verdict(found).passed


def test_chunks_make_no_difference(sound):
    sides = (Population(chunked(TRAIN, 7), SIDES[0].subjects), Population(chunked(HELD_OUT, 120), SIDES[1].subjects))
    other = audit(OTHERS, *sides, extract=pooled)
    assert other.figures == sound.figures and other.pairs == sound.pairs


def test_too_little_to_compare_is_said_and_refused():
    few = Population(chunked(HELD_OUT[:12]), np.arange(12))
    none = Population(chunked(HELD_OUT[:0]), np.arange(0))
    one = Population(chunked(HELD_OUT), np.zeros(120, np.int64))
    blank = Population(chunked(np.zeros_like(HELD_OUT)), np.arange(120))
    for found in [audit(OTHERS, SIDES[0], side) for side in (few, none, one, blank)] + [audit(OTHERS[:9], *SIDES)]:
        assert not found.broken and not verdict(found).passed
        assert all(figure.not_applicable and figure.value is None for figure in found.figures.values())
    assert "1 patients" in audit(OTHERS, SIDES[0], one).figures["copies"].not_applicable


def test_a_discriminator_that_knows_its_training_scans_is_told():
    draw = np.random.default_rng(0)
    knows = [
        dataclasses.replace(side, logits=draw.normal(by, 1, len(side.subjects)))
        for side, by in zip(SIDES, (2, 0), strict=True)
    ]
    figures = audit(OTHERS, *knows).figures
    assert figures["membership_logit"].low > 0.8 > figures["membership_logit"].floor
    assert figures["membership_logit"].n == 240
    blind = [dataclasses.replace(side, logits=draw.normal(0, 1, len(side.subjects))) for side in SIDES]
    assert any("membership_logit does no better" in remark for remark in audit(OTHERS, *blind).remarks)
    unasked = dataclasses.replace(knows[0], logits=np.full(140, np.nan))
    assert "logit" in audit(OTHERS, unasked, knows[1]).figures["membership_logit"].not_applicable
    with pytest.raises(InputError, match="3 logits of 140 scans"):
        audit(OTHERS, dataclasses.replace(SIDES[0], logits=np.zeros(3)), knows[1])


def test_features_that_do_not_tell_copies_give_no_figures(sound):
    assert "features" in audit(OTHERS, *SIDES).figures["copies_features"].not_applicable
    blind = audit(OTHERS, *SIDES, extract=lambda images: np.ones((len(images), 2), np.float32) * images[:, 0, :1, 0])
    assert blind.figures["copies"].value == 0 and blind.figures["canary_features"].value < 0.9
    assert "planted" in blind.figures["copies_features"].not_applicable and blind.features is None


def test_scans_of_unknown_patients_are_said_to_be():
    unknown = dataclasses.replace(SIDES[0], subjects=np.full(140, -1))
    # Both scans of a patient stand for two patients now, which are as alike as copies nearly are.
    found = audit(OTHERS, unknown, SIDES[1])
    assert found.broken or any("140 training scans are of unknown patients" in remark for remark in found.remarks)


def test_real_heads(mednist):
    files = sorted((mednist / "HeadCT").iterdir())[:600]
    scans = np.stack([np.asarray(Image.open(file).reduce(2), np.float32) for file in files])[:, None] / 127.5 - 1
    train, held_out, others = np.split(scans[np.random.default_rng(0).permutation(600)], [300, 480])
    sides = (Population(chunked(train), np.arange(300)), Population(chunked(held_out), np.arange(300, 480)))
    shares = [0, 12, 60]
    found = [audit(np.concatenate([others[count:], leaked(train[:count])]), *sides) for count in shares]
    assert not any(each.broken for each in found)
    assert found[0].figures["copies"].value <= 0.01
    assert [each.figures["copies"].value for each in found[1:]] == pytest.approx([0.1, 0.5], abs=0.03)
