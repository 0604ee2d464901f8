"""A few pictures of each kind are kept: always the same ones, never too many, and none of burned-in text."""

import numpy as np
import pytest

from medgan_ray.ingest.album import FLAT, SIDE, Album, hidden, key_of, pack, refused, shape, stretch, thumbnail, unpack

KEYS = [f"{number:03d}" for number in range(50)]


def _filled(order: list[int], most: int = 5) -> Album[str, str]:
    album: Album[str, str] = Album(most)
    for number in order:
        album.add("odd" if number % 2 else "even", KEYS[number], KEYS[number])
    return album


def test_which_are_kept_does_not_depend_on_the_order():
    orders = [np.random.default_rng(seed).permutation(len(KEYS)).tolist() for seed in range(5)]
    for order in orders:
        album = _filled(order)
        assert album.get("even") == KEYS[0:10:2] and album.get("odd") == KEYS[1:10:2]
        assert len(album) == 10 and album.get("none") == []


def test_equal_keys_count_once_and_what_would_not_be_kept_is_not_wanted():
    album = _filled([8, 8, 2, 8, 4])
    assert album.get("even") == ["002", "004", "008"]
    assert album.wants("even", "900") and not album.wants("even", "008")
    full = _filled(list(range(50)))
    assert full.wants("even", "000b") and not full.wants("even", "900")


def test_pictures_pass_through_plain_data():
    size = (128, 96)
    album: Album[str, tuple[np.ndarray, str]] = Album(3)
    pictures = np.random.default_rng(0).integers(0, 256, (4, *shape(size)), np.uint8)
    for number, picture in enumerate(pictures):
        album.add("constant", key_of(picture), (picture, f"subject {number}"))
    again: Album[str, np.ndarray] = Album(3)
    unpack(pack(album), size, again, lambda subject: False)
    kept = album.get("constant")
    np.testing.assert_array_equal(again.get("constant"), [picture for picture, _ in kept])
    assert len(again) == 3
    some: Album[str, np.ndarray] = Album(3)
    unpack(pack(album), size, some, lambda subject: subject == kept[1][1])
    np.testing.assert_array_equal(some.get("constant"), [kept[0][0], kept[2][0]])


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), (64, 64)), ((32, 32), (32, 32)), ((256, 128), (64, 32)), ((4096, 8), (64, 1))]
)
def test_thumbnails_are_small_and_keep_their_shape(size: tuple[int, int], expected: tuple[int, int]):
    assert shape(size) == expected and max(expected) <= SIDE
    assert thumbnail(np.ones(size)).shape == expected


def test_each_picture_uses_its_own_range():
    ramp = np.linspace(-1000, 3000, 64 * 64).reshape(64, 64)
    shown = stretch(ramp)
    assert (shown.min(), shown.max()) == (0, 255) and (np.diff(shown.astype(int).ravel()) >= 0).all()
    spot = np.zeros((64, 64))
    spot[3, 3] = 7
    assert stretch(spot)[3, 3] == 255
    for flat in (np.full((64, 64), 1e6), np.zeros((8, 8)), np.full((8, 8), np.nan), np.full((8, 8), np.inf)):
        assert (stretch(flat) == FLAT).all()


@pytest.mark.parametrize("reason", ["burned_in", "burned_in_text"])
def test_no_picture_is_made_of_burned_in_text(reason: str):
    assert hidden(reason) and refused(np.eye(64), reason) is None
    assert not hidden("constant") and refused(np.eye(64), "constant") is not None
