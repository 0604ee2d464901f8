"""Transforms: windows by the standard's own formulas, LUTs, brightness."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.transforms import brightness, to_values, window

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


def colored(values: NDArray[np.generic], photometric: str, bits: int = 8) -> NDArray[np.uint8]:
    dataset = Dataset()
    dataset.BitsStored = bits
    return brightness(values, dataset, Facts(photometric=photometric, samples=3, bits=8 * values.dtype.itemsize))


def test_brightness_of_color() -> None:
    ybr = np.zeros((1, 2, 2, 3), np.uint8)
    ybr[..., 0], ybr[..., 1:] = 90, 128
    assert (colored(ybr, "YBR_FULL_422") == 90).all()
    rgb = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], np.uint8)
    assert colored(rgb, "RGB")[0, 0].tolist() == [76, 150, 29, 255]
    assert colored(rgb.astype(np.uint16) * 257, "RGB", 16)[0, 0].tolist() == [76, 150, 29, 255]
    assert colored(rgb.astype(np.uint32) * 16843009, "RGB", 32)[0, 0].tolist() == [76, 150, 29, 255]
    with pytest.raises(Refused):
        colored(rgb, "HSV")
    with pytest.raises(Refused):
        colored(np.zeros((1, 2, 2, 4), np.uint8), "RGB")


def test_brightness_of_a_palette() -> None:
    dataset = Dataset()
    for color, entries in (("Red", [0, 255]), ("Green", [0, 128]), ("Blue", [0, 0])):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [2, 0, 8])
        setattr(dataset, f"{color}PaletteColorLookupTableData", bytes(entries))
    dataset.BitsStored, dataset.BitsAllocated, dataset.PixelRepresentation = 8, 8, 0
    facts = Facts(photometric="PALETTE COLOR", bits=8)
    found = brightness(np.array([[[0, 1, 7]]], np.uint8), dataset, facts)
    assert found.tolist() == [[[0, round(0.299 * 255 + 0.587 * 128), round(0.299 * 255 + 0.587 * 128)]]]
    del dataset.GreenPaletteColorLookupTableData
    with pytest.raises(Refused) as refused:
        brightness(np.array([[[0]]], np.uint8), dataset, facts)
    assert refused.value.code == "broken_header"


def rescaled(
    stored: NDArray[np.generic], slope: float = 1, intercept: float = 0, **more: object
) -> NDArray[np.generic]:
    dataset = Dataset()
    dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return to_values(stored, dataset, Facts(modality="CT", photometric="MONOCHROME2"))[0]


def test_values_are_narrow_only_where_nothing_is_lost() -> None:
    stored = np.array([[[0, 40000]]], np.uint16)
    assert rescaled(stored, 1, -8000).tolist() == [[[-8000, 32000]]]
    assert rescaled(stored).tolist() == [[[0, 40000]]]
    assert rescaled(stored, 0.5, 1).tolist() == [[[1, 20001]]]
    assert rescaled(stored, -1, 100).tolist() == [[[100, -39900]]]
    signed = np.array([[[-32768, 32767]]], np.int16)
    assert rescaled(signed, 1, 1).tolist() == [[[-32767, 32768]]]
    assert rescaled(signed, -1, -1).tolist() == [[[32767, -32768]]]
    assert rescaled(np.array([[[7]]], np.int8), 100, 50).dtype == np.int16


def test_negative_padding_that_is_written_unsigned() -> None:
    stored = np.array([[[-2000, 5]]], np.int16)
    assert rescaled(stored, 1, 0, PixelPaddingValue=63536).tolist() == [[[-1000, 5]]]
    stored = np.array([[[-2000, -1500, 5]]], np.int16)
    ranged = rescaled(stored, 1, 0, PixelPaddingValue=63536, PixelPaddingRangeLimit=-1500)
    assert ranged.tolist() == [[[-1000, -1000, 5]]]


def test_inversion_is_the_same_in_every_slice_of_a_series() -> None:
    """An inversion about the middle of each slice's own range would tear the scale that a series shares."""
    facts = Facts(modality="MR", photometric="MONOCHROME1")
    first, _ = to_values(np.array([[[-32768, 0, 32767]]], np.int16), Dataset(), facts)
    second, _ = to_values(np.array([[[5, 0, 100]]], np.int16), Dataset(), facts)
    assert first.tolist() == [[[32768, 0, -32767]]]
    assert second.tolist() == [[[-5, 0, -100]]]


def test_measured_values_are_what_they_are_however_they_are_displayed() -> None:
    """Hounsfield units and uptake values say nothing of display: MONOCHROME1 must not turn bone into air."""
    stored = np.array([[[0, 1000, 2000]]], np.uint16)
    for changes in ({"photometric": "MONOCHROME1"}, {"photometric": "MONOCHROME2"}):
        dataset = Dataset()
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PresentationLUTShape = "1", "-1000", "INVERSE"
        values, unit = to_values(stored, dataset, Facts(modality="CT", **changes))
        assert (values.tolist(), unit) == ([[[-1000, 0, 1000]]], "HU")
        dataset.Units, dataset.RescaleIntercept = "GML", "0"
        values, unit = to_values(stored, dataset, Facts(modality="PT", **changes))
        assert (values.tolist(), unit) == ([[[0, 1000, 2000]]], "SUV")


def test_a_voi_lut_that_begins_below_zero_but_says_so_unsigned() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [3, 65535, 8], np.array([0, 51, 255], "<u2").tobytes()
    dataset = xray(VOILUTSequence=[table], RescaleSlope="1", RescaleIntercept="-1.5")
    values, _ = to_values(np.array([[[0, 2, 3]]], np.uint16), dataset, CR)
    np.testing.assert_allclose(values, [[[0, 0.2, 1]]], atol=1e-6)  # -1.5, 0.5, 1.5 rounded: -2, 0, 2


def test_each_frame_has_its_own_window() -> None:
    """The frame's functional group goes before the shared one, that before the top level."""

    def group(center: float) -> Dataset:
        item, holder = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth, item.VOILUTFunction = center, 100, "LINEAR_EXACT"
        holder.FrameVOILUTSequence = [item]
        return holder

    stored = np.array([[[50]], [[50]]], np.uint16)
    dataset = xray(SharedFunctionalGroupsSequence=[group(100)])
    assert to_values(stored, dataset, CR)[0].tolist() == [[[0]], [[0]]]
    dataset.PerFrameFunctionalGroupsSequence = [group(50), group(0)]
    values, unit = to_values(stored, dataset, CR)
    assert (values.tolist(), unit) == ([[[0.5]], [[1]]], "voi")


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        rescaled(np.array([[[1, np.nan]]], np.float32))
    assert refused.value.code == "unsupported_pixels"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("center", "width"), [("nan", "400"), ("40", "inf"), ("1e300", "400")])
def test_a_window_of_no_numbers_is_none(center: str, width: str) -> None:
    values, unit = to_values(np.array([[[0, 4095]]], np.uint16), xray(WindowCenter=center, WindowWidth=width), CR)
    assert (values.tolist(), unit) == ([[[0, 4095]]], "relative")


def test_entries_with_more_bits_than_they_say_stay_on_the_display() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 8], np.array([51, 65535], "<u2").tobytes()
    values, _ = to_values(np.array([[[0, 1]]], np.uint16), xray(VOILUTSequence=[table]), CR)
    assert values == pytest.approx(np.array([[[0.2, 1]]]))


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([0, 1, 0, 1, 255, 65535], True),  # a value and a line
        ([0, 2, 0, 65535, 2, 1, 0, 0] * 3, True),  # values, and the same again
        ([0, 1, 5, *[1, 65535, 7] * 3], False),
        ([0, 1, 5, *[1, 65535, 7, 2, 2, 0, 0] * 3], False),
        ([0, 1, 5, 2, 2, 0, 0, 2, 3, 0, 0], False),  # a repetition within a repetition
    ],
)
def test_segmented_palettes_are_as_long_as_a_table_can_be(words: list[int], taken: bool) -> None:
    dataset = Dataset()
    for color in ("Red", "Green", "Blue"):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"Segmented{color}PaletteColorLookupTableData", np.array(words, "<u2").tobytes())
    dataset.BitsStored, dataset.BitsAllocated, dataset.PixelRepresentation = 8, 8, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored, facts = np.array([[[0, 1]]], np.uint8), Facts(photometric="PALETTE COLOR", bits=8)
    if taken:
        assert brightness(stored, dataset, facts)[0, 0, 0] == 0
    else:
        with pytest.raises(Refused, match="segments"):
            brightness(stored, dataset, facts)
