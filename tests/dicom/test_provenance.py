"""Provenance: one line that fits, and UIDs that nobody has."""

import io

import pydicom

from medgan_ray.dicom.provenance import Provenance, SeriesIds, fresh_uid, mark_synthetic, new_object, to_file

MADE = Provenance("heads@3", "ab" * 32, 7, 4, "lesion")


def test_it_is_one_line_that_a_short_text_holds() -> None:
    assert MADE.describe() == f"model=heads@3 weights_sha256={'ab' * 32} seed=7 index=4 label=lesion"
    assert "label" not in Provenance("heads@3", "ab", 7, 4).describe()
    assert len(Provenance("heads@3", "ab" * 32, 7, 4, "x" * 5000).describe()) == 1024


def test_uids_are_valid_and_never_the_same() -> None:
    uids = {fresh_uid() for _ in range(100)} | {SeriesIds.fresh().study, SeriesIds.fresh().series}
    assert len(uids) == 102 and all(pydicom.uid.UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)


def test_an_object_is_a_file_that_says_what_made_it() -> None:
    dataset = new_object("1.2.840.10008.5.1.4.1.1.7", "2.25.1", "2.25.2")
    mark_synthetic(dataset, MADE)
    again = pydicom.dcmread(io.BytesIO(to_file(dataset)))
    assert (again.StudyInstanceUID, again.SeriesInstanceUID, again.SyntheticData) == ("2.25.1", "2.25.2", "YES")
    assert again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
    assert again.ContributingEquipmentSequence[0].ContributionDescription == MADE.describe()
