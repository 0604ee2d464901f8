"""178 DICOM files of many makers and their quirks: each is read or refused by name, and read as other readers do."""

import csv
import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medgan_ray.dicom.decoders import stored_values
from medgan_ray.dicom.facts import Options, gather
from medgan_ray.dicom.parse import open_dicom
from medgan_ray.dicom.refusals import REFUSALS
from medgan_ray.dicom.sandbox import Outcome, Source, decode

LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
"""JPEG that right decoders read with a difference of one."""


@functools.cache
def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@functools.cache
def outcomes(folder: Path, options: Options) -> list[Outcome]:
    sources = [Source(row["file"], path=str(folder / row["file"])) for row in listed(folder)]
    return list(decode(sources, 2, options=options))


@pytest.mark.parametrize(
    "options", [Options(), Options(luma=True, secondary=True, derived=True)], ids=["default", "all"]
)
def test_every_file_is_taken_or_refused_by_name(dicom_corpus: Path, options: Options) -> None:
    found = outcomes(dicom_corpus, options)
    assert len(found) == 178
    for outcome in found:
        taken = outcome.values is not None and outcome.facts is not None
        assert taken != bool(outcome.refusal), outcome.source.name
        assert taken or outcome.refusal in REFUSALS
        assert outcome.refusal not in ("decoder_crashed", "too_slow", "over_memory"), outcome.source.name
        assert outcome.seconds < 5
        if outcome.values is not None and outcome.facts is not None:
            facts = outcome.facts
            assert outcome.values.shape == (facts.frames, facts.rows, facts.columns)
            assert np.isfinite(outcome.values).all()
            assert facts.unit in ("HU", "SUV", "voi", "grey", "relative")
            assert facts.unit != "voi" or (outcome.values.min() >= 0 and outcome.values.max() <= 1)


def test_all_that_two_readers_agree_on_is_read_alike(dicom_corpus: Path) -> None:
    """Also of files that are refused for another reason, such as screen shots and segmentations."""
    wrong, agreed = [], 0
    for row, outcome in zip(listed(dicom_corpus), outcomes(dicom_corpus, Options(inspect=True)), strict=True):
        code = outcome.refusal or (outcome.facts.verdict if outcome.facts else "?")
        assert code == "" or code in REFUSALS
        if row["agree"] != "yes":
            continue
        agreed += 1
        found = outcome.facts.stored_sha256 if outcome.facts else ""
        if found != row["stored_sha256"] and (row["transfer_syntax"] not in LOSSY or not found):
            wrong.append(row["file"])
    assert (wrong, agreed) == ([], 115)


def test_lossy_jpeg_is_within_one_of_a_second_decoder(dicom_corpus: Path, tmp_path: Path) -> None:
    """Where the hash is that of another decoder: DCMTK reads it too."""
    if shutil.which("dcmdjpeg") is None:
        pytest.skip("no DCMTK here")
    compared = 0
    for row, outcome in zip(listed(dicom_corpus), outcomes(dicom_corpus, Options(inspect=True)), strict=True):
        if row["transfer_syntax"] not in LOSSY or not outcome.facts or not row["stored_sha256"]:
            continue
        if outcome.facts.stored_sha256 == row["stored_sha256"]:
            continue
        ours, theirs = read_here(dicom_corpus / row["file"]), read_by_dcmtk(dicom_corpus / row["file"], tmp_path)
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, row["file"]
        compared += 1
    assert compared >= 2


def read_here(path: Path) -> NDArray[np.generic]:
    dataset = open_dicom(path.read_bytes())
    return stored_values(dataset, gather(dataset))


def read_by_dcmtk(path: Path, folder: Path) -> NDArray[np.generic]:
    plain = folder / path.name
    subprocess.run(["dcmdjpeg", "+cn", path, plain], check=True, capture_output=True)
    return np.asarray(pydicom.dcmread(plain).pixel_array)
