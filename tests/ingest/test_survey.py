"""What is counted while samples are written is what stands in the shards."""

from pathlib import Path

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import SPLITS
from medgan_ray.dicom import phantom
from medgan_ray.ingest.deidentify import ATTRIBUTES, MAKERS, SEXES
from medgan_ray.ingest.survey import ACCEPTED, BINS, counts, survey
from medgan_ray.verbs.ingest import ingest_scans
from tests.builders import write_dataset

CONFIG = {"size": 32, "ingest": {"workers": 1, "near_duplicates": "off"}}


def _scans(folder: Path, patients: range) -> None:
    folder.mkdir()
    rows = ["file,label"]
    for number, each in enumerate(phantom.draw("ct", patients.stop, 2, 48, 5)):
        if each.patient not in patients:
            continue
        dataset = phantom.to_dicom(each, 5)
        dataset.PatientSex, dataset.Manufacturer = "MF"[each.patient % 2], "SIEMENS"
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        rows.append(f"{number}.dcm,{'' if each.patient == 1 else each.label}")
    (folder / "labels.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of eight patients that was made by two ingests, the second adding three of them."""
    folder = tmp_path_factory.mktemp("survey")
    _scans(folder / "first", range(5))
    _scans(folder / "second", range(5, 8))
    for name in ("first", "second"):
        ingest_scans(str(folder / name), str(folder / "data"), CONFIG)
    return str(folder / "data")


def test_the_manifest_counts_its_samples(made: str):
    dataset = open_dataset(made)
    manifest, told = dataset.manifest, dataset.manifest.counts
    assert told is not None and manifest.attributes == ATTRIBUTES and sum(told.ends["train"]) > 0
    people: dict[tuple[str, str], set[int]] = {}
    for name in SPLITS:
        split = dataset.split(name)
        samples = split.take(np.arange(len(split)))
        bins = np.histogram(samples.image, BINS, (0, 65536))[0]
        assert told.histogram[name] == tuple(bins.tolist()) and sum(bins) == len(split) * 32 * 32
        assert told.ends[name] == ((samples.image == 0).sum(), (samples.image == 65535).sum())
        for code, label in [*enumerate(manifest.classes), (-1, "")]:
            chosen = samples.label[:, 0] == code
            assert told.classes[label].samples.get(name, 0) == chosen.sum()
            people.setdefault(("class", label), set()).update(samples.subject[chosen].tolist())
        for place, words in ((0, SEXES), (2, MAKERS)):
            for code, word in enumerate(words):
                group = told.attributes[ATTRIBUTES[place]].get(word)
                chosen = samples.attribute[:, place] == code
                assert (group.samples.get(name, 0) if group else 0) == chosen.sum()
                people.setdefault((ATTRIBUTES[place], word), set()).update(samples.subject[chosen].tolist())
    assert told.attributes["sex"]["F"].subjects == len(people["sex", "F"]) == 4
    assert told.attributes["maker"]["siemens"].subjects == len(people["maker", "siemens"]) == 8
    assert told.classes[""].subjects == len(people["class", ""]) == 1
    assert sum(group.subjects for group in told.attributes["age_decade"].values()) == 8


def test_counting_what_is_there_gives_the_same(made: str):
    dataset = open_dataset(made)
    again = survey(dataset)
    assert again.counts(dataset.manifest.classes, dataset.manifest.attributes) == dataset.manifest.counts
    assert counts(dataset) == dataset.manifest.counts


def test_a_dataset_without_counts_is_counted(tmp_path: Path):
    write_dataset(str(tmp_path / "data"), classes=("normal", "lesion"), shard_bytes=50_000)
    dataset = open_dataset(str(tmp_path / "data"))
    found = counts(dataset)
    assert dataset.manifest.counts is None and len(dataset.manifest.shards) > 3
    assert found.classes["lesion"].samples == {"train": 60, "val": 12, "test": 12}
    assert found.without_subject == 0 and set(found.histogram) == set(SPLITS) and found.attributes == {}


def test_pictures_are_few_whatever_the_number_of_samples(tmp_path: Path):
    write_dataset(str(tmp_path / "data"), classes=tuple(f"class {number}" for number in range(20)))
    found = survey(open_dataset(str(tmp_path / "data")))
    kinds = {kind for kind, _, _ in found.pictures.items()}
    assert len(kinds) == 3 * 12 and {code for _, code in kinds} == set(range(12))
    write_dataset(str(tmp_path / "one"))
    found = survey(open_dataset(str(tmp_path / "one")))
    assert len(found.pictures.get(("train", -1))) == ACCEPTED == len(found.pictures.get(("val", -1)))
