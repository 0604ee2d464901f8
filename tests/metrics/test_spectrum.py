"""Power beyond half Nyquist and the lattice index, on signals whose spectra are known."""

import numpy as np
import pytest
import scipy.fft

from medgan_ray import seeds
from medgan_ray.errors import InputError
from medgan_ray.metrics.spectrum import high_frequency_power, lattice_index, spectrum_distance


def white(n: int = 100, height: int = 64, width: int = 64) -> np.ndarray:
    return seeds.generator("white").standard_normal((n, 1, height, width), np.float32)


def test_white_noise_has_unit_power_and_a_flat_spectrum() -> None:
    assert high_frequency_power(white()) == pytest.approx(1, rel=0.02)
    assert lattice_index(white()) == pytest.approx(1, rel=0.05)


def test_power_grows_with_the_square_of_the_amplitude_and_the_index_not() -> None:
    noise = white(20)
    assert high_frequency_power(3 * noise) == pytest.approx(9 * high_frequency_power(noise), rel=1e-5)
    assert lattice_index(3 * noise) == pytest.approx(lattice_index(noise), rel=1e-5)


@pytest.mark.parametrize(("cycles", "counts"), [(8, False), (15, False), (17, True), (31, True)])
def test_only_waves_beyond_a_quarter_cycle_a_pixel_count(cycles: int, counts: bool) -> None:
    wave = np.cos(2 * np.pi * cycles / 64 * np.arange(64, dtype=np.float32))
    images = np.broadcast_to(wave, (1, 1, 64, 64)).astype(np.float32)
    assert (high_frequency_power(images) > 1e-3) == counts


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (30, 50)])
@pytest.mark.parametrize("period", [2, 4])
def test_a_lattice_raises_the_index(size: tuple[int, int], period: int) -> None:
    noise = white(20, *size)
    lattice = noise.copy()
    lattice[..., ::period] += 1
    assert lattice_index(lattice) > 1.3 * lattice_index(noise)


def test_a_notch_on_the_lines_lowers_the_index() -> None:
    noise = white(20)
    spectrum = np.fft.fft2(noise)
    spectrum[..., [16, 32, 48], :] = 0
    spectrum[..., :, [16, 32, 48]] = 0
    assert lattice_index(np.fft.ifft2(spectrum).real.astype(np.float32)) < 1e-6


def test_many_images_are_the_mean_of_few() -> None:
    noise = white(150, 16, 16)
    parts = [high_frequency_power(noise[start : start + 50]) for start in (0, 50, 100)]
    assert high_frequency_power(noise) == pytest.approx(np.mean(parts), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (1, 8, 8)])
def test_what_is_no_image_set_is_refused(shape: tuple[int, ...]) -> None:
    for figure in (high_frequency_power, lattice_index):
        with pytest.raises(InputError, match="image set"):
            figure(np.zeros(shape, np.float32))


def test_the_distance_of_spectra_is_that_of_plain_rings() -> None:
    draw = np.random.default_rng(5)
    a, b = white(12, 32, 32), draw.normal(0, 1, (9, 1, 32, 32)).cumsum(3).astype(np.float32) / 8

    def rings(images: np.ndarray) -> np.ndarray:
        power = np.mean([np.abs(scipy.fft.fft2(image[0].astype(float))) ** 2 / 1024 for image in images], axis=0)
        shifted = scipy.fft.fftshift(power)
        radius = np.hypot(*np.indices((32, 32)) - 16)
        return np.array([shifted[np.rint(radius) == ring].mean() for ring in range(1, 17)])

    expected = np.sqrt(np.mean((10 * np.log10(rings(a) / rings(b))) ** 2))
    assert spectrum_distance(a, b) == pytest.approx(expected, abs=1e-4)
    assert expected > 1


def test_twice_the_amplitude_is_six_decibels_away() -> None:
    noise = white(10)
    assert spectrum_distance(2 * noise, noise) == pytest.approx(20 * np.log10(2), rel=1e-6)
    flat = np.zeros((2, 1, 8, 8), np.float32)
    assert spectrum_distance(flat, flat) == 0
    with pytest.raises(InputError, match="one size"):
        spectrum_distance(noise, flat)
