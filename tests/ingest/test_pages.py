"""The pages of a dataset: right counts, no names, pixels on the private one only, the same bytes for the same scans."""

import base64
import html.parser
import io
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dicom import phantom
from medgan_ray.ingest import album
from medgan_ray.ingest.deidentify import subject_key
from medgan_ray.ingest.withdraw import withdraw
from medgan_ray.verbs.ingest import ingest_scans

SIZE = 40
SETTINGS = {"near_duplicates": "off", "keep": ["uneven_slices"]}
CONFIG = {"size": SIZE, "ingest": {"workers": 1, **SETTINGS}}
UNEVEN = 3
"""Patients whose last slice stands too far away."""
PATIENTS, SLICES = 8, 3
HOSTILE = "<script>alert('x')</script>"


class _Reader(html.parser.HTMLParser):
    """Collects a page's tables (rows of cells by title), its pictures (by caption), its tags and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.pictures: dict[str, np.ndarray] = {}
        self.tags: set[str] = set()
        self.words = ""
        self._into, self._title, self._image = "", "", np.empty(0)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._into = tag
        given = dict(attrs)
        if tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        if tag == "td":
            self.tables[self._title][-1].append("")
        if tag == "img":
            data = base64.b64decode((given["src"] or "").partition(",")[2])
            self._image = np.asarray(Image.open(io.BytesIO(data)))

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._into == "h2" and data.strip():
            self._title = data
        if self._into == "td" and data.strip():
            self.tables[self._title][-1][-1] += data
        if self._into == "figcaption" and data.strip():
            self.pictures[f"{self._title}: {data}"] = self._image

    def rows(self, title: str) -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in self.tables.get(title, []) if row}


def _tiles(picture: np.ndarray) -> list[bytes]:
    """Return the thumbnails of a sheet; what is left over in black is none."""
    rows, columns = (side // SIZE for side in picture.shape)
    tiles = picture.reshape(rows, SIZE, columns, SIZE).swapaxes(1, 2).reshape(-1, SIZE, SIZE)
    return [tile.tobytes() for tile in tiles if tile.any()]


def _report(dataset: Path) -> _Reader:
    return _Reader((dataset / "report.html").read_text("utf-8"))


def _thumbnails(dataset: Path) -> _Reader:
    return _Reader((dataset / "private/thumbnails.html").read_text("utf-8"))


def _write(folder: Path, number: int, drawn: phantom.Phantom, name: str = "", **changes: object) -> None:
    dataset = phantom.to_dicom(drawn, 1)
    dataset.PatientName, dataset.Manufacturer = "Doe^Zebrafinch", "SIEMENS"
    dataset.PatientSex = "FM"[drawn.patient % 2]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    pydicom.dcmwrite(folder / f"zebrafinch-{name or number}.dcm", dataset, enforce_file_format=True)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of eight patients, and what is not taken, for six reasons; one class has a hostile name."""
    folder = tmp_path_factory.mktemp("pages") / "in"
    folder.mkdir()
    lines = ["file,label"]
    for number, drawn in enumerate(phantom.draw("ct", PATIENTS, SLICES, 64, 1)):
        place = list(phantom.to_dicom(drawn, 1).ImagePositionPatient)
        place[2] = 99 if drawn.patient < UNEVEN and drawn.slice == SLICES - 1 else place[2]
        _write(folder, number, drawn, ImagePositionPatient=place)
        lines.append(f"zebrafinch-{number}.dcm,{HOSTILE if drawn.lesion else 'normal'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    for number, drawn in enumerate(phantom.draw("ct", 3, 1, 64, 2)):
        _write(folder, number, drawn, f"text-{number}", BurnedInAnnotation="YES")
    for number, drawn in enumerate(phantom.draw("mr", 2, 1, 64, 3)):
        _write(folder, number, drawn, f"mr-{number}")
    _write(folder, 0, next(phantom.draw("ct", PATIENTS, SLICES, 64, 1)), "again")
    for number in range(15):  # more than are shown
        _write(folder, 0, next(phantom.draw("ct", 1, 1, 16, 10 + number)), f"small-{number}")
    (folder / "zebrafinch.txt").write_text("zebrafinch")
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(folder / "zebrafinch.png")
    return folder


REJECTED = {"burned_in": 3, "mixed_modality": 2, "duplicate": 1, "too_small": 15, "not_an_image": 1, "constant": 1}


@pytest.fixture(scope="module")
def made(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that they make."""
    folder = tmp_path_factory.mktemp("made") / "data"
    result = ingest_scans(str(scans), str(folder), CONFIG)
    assert result.rejected == REJECTED and result.report == str(folder / "report.html")
    return folder


def test_the_report_counts_what_the_dataset_holds(made: Path):
    manifest, page = open_dataset(str(made)).manifest, _report(made)
    splits = page.rows("Splits")
    told = {name: (int(row[0]), int(row[2])) for name, row in splits.items()}
    assert told == {name: (split.samples, split.subjects) for name, split in manifest.splits.items()}
    assert sum(samples for samples, _ in told.values()) == PATIENTS * SLICES
    classes = page.rows("Classes")
    assert {name: row[3:] for name, row in classes.items()} == {HOSTILE: ["12", "4"], "normal": ["12", "4"]}
    reasons = page.rows("What was left out, and why")
    assert {reason: int(row[-1]) for reason, row in reasons.items()} == REJECTED
    assert reasons["constant"][0] == "every pixel has the same value"
    files = PATIENTS * SLICES + sum(REJECTED.values())
    assert f"found {files} files and added {PATIENTS * SLICES} samples" in page.words
    names, recipe = page.rows("Names"), page.rows("The recipe")
    assert names["content digest"] == [manifest.content_digest]
    assert names["subject key's fingerprint"] == [subject_key().fingerprint]
    assert (recipe["size"], recipe["ingest.window"], recipe["split.val"]) == (["[40,40]"], ["soft"], ["0.15"])


def test_uneven_series_are_told_by_their_hashes(made: Path):
    series = _report(made).rows("Series that are not even")
    assert len(series) == UNEVEN and list(series) == sorted(series) and all(int(name, 16) for name in series)
    assert {row[0] for row in series.values()} == {"uneven_slices"} and {row[1] for row in series.values()} == {"3"}


def test_small_groups_are_not_told_on_the_page(made: Path):
    rows = [row for row in _report(made).tables["Who and how"] if row]
    told = {(row[0], row[1]): row[2:] for row in rows}
    assert told["sex", "F"] == ["–", "–", "–", "–", "under 5"]
    assert told["maker", "siemens"][3:] == ["24", "8"]
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=["sex", "age", "maker", "view"].index)


def test_names_and_pixels_stand_where_they_may(made: Path, scans: Path):
    pages = {path: path.read_bytes() for path in made.rglob("*.html")}
    assert {str(path.relative_to(made)) for path in pages} == {"report.html", "private/thumbnails.html"}
    for path, data in pages.items():
        for word in ("zebrafinch", "doe^", "phantom-00", str(scans).lower(), str(made).lower()):
            assert word.encode() not in data.lower()
        assert (b"data:image" in data) == (path.parent.name == "private")
    assert "img" not in _report(made).tags and "svg" in _report(made).tags


def test_class_names_stay_words(made: Path):
    for page in (_report(made), _thumbnails(made)):
        assert "script" not in page.tags and HOSTILE in page.words


def test_thumbnails_show_what_was_taken(made: Path):
    page, dataset = _thumbnails(made), open_dataset(str(made))
    seen = 0
    for code, name in enumerate(dataset.manifest.classes):
        for split_name in ("train", "val", "test"):
            split = dataset.split(split_name)
            samples = split.take(np.arange(len(split)))
            images = dataset.manifest.intensity.display(samples.image[samples.label[:, 0] == code, 0])
            caption = f"Taken: {name}: {split_name}"
            if len(images):
                tiles = _tiles(page.pictures[caption])
                assert set(tiles) <= {image.tobytes() for image in images}
                assert len(tiles) == len(set(tiles)) == min(8, len(images))
                seen += len(tiles)
            else:
                assert caption not in page.pictures
    assert seen >= 16


def test_thumbnails_show_what_was_left_out_and_never_burned_in_text(made: Path):
    page = _thumbnails(made)
    shown = {name.split(": ")[1]: picture for name, picture in page.pictures.items() if name.startswith("Pictures")}
    assert set(shown) == {"burned_in (3)", "constant (1)", "duplicate (1)", "mixed_modality (2)", "too_small (15)"}
    assert shown["burned_in (3)"].shape == (SIZE, 3 * SIZE) and not shown["burned_in (3)"].any()
    assert len(_tiles(shown["too_small (15)"])) == album.REJECTED
    assert len(_tiles(shown["mixed_modality (2)"])) == 2
    assert (shown["constant (1)"] == album.FLAT).all()
    rows = page.rows("Left out by the last ingest")
    assert (rows["burned_in"][-1], rows["not_an_image"][-1], rows["too_small"][-1]) == (
        "blacked out",
        "no pixels",
        "12",
    )


def test_the_same_scans_give_the_same_pages(made: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other names in another order, more processes, smaller parts, and an interruption leave no trace."""
    monkeypatch.setattr("medgan_ray.ingest.parts.PART_FILES", 7)
    table = dict(line.rsplit(",", 1) for line in (scans / "labels.csv").read_text().splitlines()[1:])
    (tmp_path / "in").mkdir()
    lines = ["file,label"]
    files = sorted(path for path in scans.iterdir() if path.suffix != ".csv")
    for place, path in zip(np.random.default_rng(0).permutation(len(files)), files, strict=True):
        shutil.copy(path, tmp_path / "in" / f"{place}.bin")
        lines += [f"{place}.bin,{table[path.name]}"] if path.name in table else []
    (tmp_path / "in/labels.csv").write_text("\n".join(lines))

    def interrupt(done: int, _: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    other = CONFIG | {"ingest": {"workers": 2, **SETTINGS}}
    with pytest.raises(KeyboardInterrupt):
        ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), other, interrupt)
    ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), other)
    for page in ("report.html", "private/thumbnails.html"):
        assert (tmp_path / "out" / page).read_bytes() == (made / page).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out/private").rglob("*")) == ["thumbnails.html"]


def test_adding_tells_of_all_samples_and_of_the_last_ingest(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "data")
    (tmp_path / "more").mkdir()
    for number, drawn in enumerate(phantom.draw("ct", PATIENTS + 1, SLICES, 64, 1)):
        if drawn.patient >= PATIENTS - 1:  # one is there already, one is new
            _write(tmp_path / "more", number, drawn)
    ingest_scans(str(tmp_path / "more"), str(tmp_path / "data"), CONFIG)
    page = _report(tmp_path / "data")
    assert sum(int(row[0]) for row in page.rows("Splits").values()) == (PATIENTS + 1) * SLICES
    reasons = page.rows("What was left out, and why")
    assert reasons["duplicate"][1:] == [str(SLICES), str(1 + SLICES)] and reasons["burned_in"][1:] == ["0", "3"]
    assert f"found {2 * SLICES} files and added {SLICES} samples" in page.words
    shown = [name for name in _thumbnails(tmp_path / "data").pictures if name.startswith("Pictures")]
    assert shown == [f"Pictures of what was left out: duplicate ({SLICES})"]


def test_an_ingest_that_adds_nothing_leaves_the_pages_and_makes_missing_ones(made: Path, scans: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "data")
    before = (tmp_path / "data/report.html").read_bytes()
    ingest_scans(str(scans), str(tmp_path / "data"), CONFIG)
    assert (tmp_path / "data/report.html").read_bytes() == before
    (tmp_path / "data/report.html").unlink()
    ingest_scans(str(scans), str(tmp_path / "data"), CONFIG)
    page = _report(tmp_path / "data")
    assert page.rows("Splits") == _report(made).rows("Splits") and "added 0 samples" in page.words


def test_a_withdrawal_takes_the_subject_off_both_pages(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "data")
    dataset = open_dataset(str(made))
    # Of a split that shows all that it holds, so that the subject was shown.
    split = dataset.split("test")
    samples = split.take(np.arange(len(split)))
    code = int(samples.subject[0])
    chosen = samples.image[samples.subject == code, 0]
    theirs = {image.tobytes() for image in dataset.manifest.intensity.display(chosen)}
    ids = [f"PHANTOM-{number:04d}" for number in range(PATIENTS)]
    (gone,) = (each for each in ids if subject_key().hash(f"patient:{each}") == dataset.manifest.subjects[code])
    shown = {tile for picture in _thumbnails(made).pictures.values() for tile in _tiles(picture)}
    assert theirs <= shown
    result = withdraw(str(tmp_path / "data"), [gone])
    page, left = _report(tmp_path / "data"), _thumbnails(tmp_path / "data")
    assert not theirs & {tile for picture in left.pictures.values() for tile in _tiles(picture)}
    assert left.pictures and not any(name.startswith("Pictures") for name in left.pictures)
    assert sum(int(row[0]) for row in page.rows("Splits").values()) == (PATIENTS - 1) * SLICES
    assert page.rows("Names")["manifest"] == [result.manifest]
    assert page.rows("What was left out, and why").keys() == REJECTED.keys()


def test_what_was_refused_of_a_withdrawn_patient_stays_off_the_pages(made: Path, tmp_path: Path):
    """Their small scans were refused, and shown, by the first ingest; a later one finds them again."""
    shutil.copytree(made, tmp_path / "data")
    drawn = list(phantom.draw("ct", PATIENTS + 2, SLICES, 64, 1))
    (tmp_path / "more").mkdir()
    for number, each in enumerate(drawn):
        if each.patient >= PATIENTS:
            _write(tmp_path / "more", number, each)
    for number, seed in enumerate((40, 41)):
        small = next(phantom.draw("ct", 1, 1, 16, seed))
        _write(tmp_path / "more", 0, small, f"small-{number}", PatientID=f"PHANTOM-{PATIENTS - 1 + number:04d}")
    withdraw(str(tmp_path / "data"), [f"PHANTOM-{PATIENTS - 1:04d}"])
    ingest_scans(str(tmp_path / "more"), str(tmp_path / "data"), CONFIG)
    page = _thumbnails(tmp_path / "data")
    assert page.rows("Left out by the last ingest")["too_small"][1:] == ["2", "1"]
    (shown,) = (picture for name, picture in page.pictures.items() if "too_small" in name)
    assert len(_tiles(shown)) == 1


def test_pages_tell_of_nobody_where_everybody_has_left(made: Path, tmp_path: Path):
    shutil.copytree(made, tmp_path / "data")
    withdraw(str(tmp_path / "data"), [f"PHANTOM-{number:04d}" for number in range(PATIENTS)])
    assert "0 images" in _report(tmp_path / "data").words and not _thumbnails(tmp_path / "data").pictures


def test_a_leaning_series_is_told_without_its_name(ct_series: Path, tmp_path: Path):
    keep = {"ingest.keep": ["tilted", "uneven_slices"], "ingest.window": "brain"}
    ingest_scans(
        str(ct_series / "head_gantry_tilt"), str(tmp_path / "out"), {"size": SIZE, "ingest.workers": 1, **keep}
    )
    page = _report(tmp_path / "out")
    ((series, row),) = page.rows("Series that are not even").items()
    assert row == ["uneven_slices, tilted", "12", "1.14, 4.22, 7.38", "18.5"]
    assert len(series) == 12 and int(series, 16)
    assert "Taken in spite of tilted, uneven_slices" in page.words
