"""Transforms: windows by the standard's own formulas, LUTs, brightness."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.transforms import luma, to_rgb, to_values, window

CR = Facts(modality="CR", photometric="MONOCHROME2")
X = np.array([-2000.0, 0, 39.5, 100, 2000])


def test_linear_window_has_the_half_of_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1: center 2048, width 4096 maps 0 to the lowest and 4095 to the highest value."""
    assert window(np.array([0.0, 4095]), 2048, 4096).tolist() == [0, 1]
    assert window(np.array([0.0, 1]), 1, 1).tolist() == [0, 1]


def test_exact_and_sigmoid_windows() -> None:
    assert window(np.array([0.0, 50, 100]), 50, 100, "LINEAR_EXACT").tolist() == [0, 0.5, 1]
    shown = window(X, 40, 400, "SIGMOID")
    np.testing.assert_allclose(shown, 1 / (1 + np.exp(-4 * (X - 40) / 400)), rtol=1e-5)


@pytest.mark.parametrize(("width", "function"), [(0.5, "LINEAR"), (0, "LINEAR_EXACT"), (-4, "SIGMOID")])
def test_widths_that_the_standard_forbids(width: float, function: str) -> None:
    with pytest.raises(Refused) as refused:
        window(X, 40, width, function)
    assert refused.value.code == "broken_header"


def xray(**changes: object) -> Dataset:
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = [2048, 100], [4096, 10]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_first_of_several_windows_and_voi_lut_before_it() -> None:
    stored = np.array([[[0, 4095]]], np.uint16)
    values, unit = to_values(stored, xray(), CR)
    assert (values.tolist(), unit) == ([[[0, 1]]], "voi")
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 8], np.array([51, 204], "<u2").tobytes()
    values, _ = to_values(np.array([[[0, 1, 9]]], np.uint16), xray(VOILUTSequence=[table]), CR)
    assert values == pytest.approx(np.array([[[0.2, 0.8, 0.8]]]))


def test_a_lut_shorter_than_it_says_is_refused() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [100, 0, 16], b"\0\0"
    with pytest.raises(Refused):
        to_values(
            np.zeros((1, 2, 2), np.uint16),
            xray(VOILUTSequence=[table]),
            Facts("dicom", "CR", photometric="MONOCHROME2"),
        )


def test_absurd_slopes_are_refused() -> None:
    dataset = Dataset()
    dataset.RescaleSlope, dataset.RescaleIntercept = "1e300", 0
    with pytest.raises(Refused):
        to_values(np.ones((1, 2, 2), np.uint16), dataset, Facts(modality="MR", photometric="MONOCHROME2"))


def test_color_spaces() -> None:
    grey = Dataset()
    grey.PhotometricInterpretation = "YBR_FULL"
    ybr = np.zeros((1, 2, 2, 3), np.uint8)
    ybr[..., 0], ybr[..., 1:] = 90, 128
    assert (luma(to_rgb(ybr, grey)) == 90).all()
    with pytest.raises(Refused):
        to_rgb(ybr.astype(np.uint16), grey)
