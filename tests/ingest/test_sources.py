"""Sources: what is found, with which label and patient; tables that can't be used are named."""

import tracemalloc
from pathlib import Path

import pytest

from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import Limits
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.ingest.sources import find
from medgan_ray.store import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "a/1.png", "a/sub/3.png", ".hidden/4.png", "a/.5.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "in"


def names(folder: Path, **options: str) -> list[tuple[str, str, str, str]]:
    return [
        (item.source.name.removeprefix(f"{folder}/"), item.label, item.group, item.folder)
        for item in find([str(folder)], **options)
    ]


def test_files_are_sorted_and_hidden_ones_left_out(folder: Path) -> None:
    assert names(folder) == [("a/1.png", "", "", "a"), ("a/sub/3.png", "", "", "a"), ("b/2.png", "", "", "b")]


def test_a_table_gives_labels_and_patients(folder: Path) -> None:
    (folder / "labels.csv").write_text("File, Label, Patient\na/1.png,x,p1\nb/2.png,y,p2\n", "utf-8-sig")
    assert names(folder) == [("a/1.png", "x", "p1", ""), ("a/sub/3.png", "", "", ""), ("b/2.png", "y", "p2", "")]


def test_a_table_of_patients_alone_leaves_class_folders(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,subject\na/1.png,p1\n")
    assert names(folder)[0] == ("a/1.png", "", "p1", "a")


@pytest.mark.parametrize(("labels", "first"), [("folders", "a"), ("none", "")])
def test_labels_can_be_folders_or_none(folder: Path, labels: str, first: str) -> None:
    (folder / "labels.csv").write_text("file,label,patient\na/1.png,x,p1\n")
    assert names(folder, labels=labels)[0] == ("a/1.png", first, "p1", "")


def test_a_table_may_stand_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\nb/2.png,y\n")
    assert names(folder, labels=str(tmp_path / "t.csv"))[2] == ("b/2.png", "y", "", "")


def test_a_single_file_and_the_dataset_inside_its_source(folder: Path) -> None:
    assert [item.source.name for item in find([str(folder / "a/1.png")])] == [f"{folder}/a/1.png"]
    assert [row[0] for row in names(folder, skip=str(folder / "a"))] == ["b/2.png"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,label\na/1.png,x\n", "no column 'file'"),
        ("file,color\na/1.png,x\n", "no column 'label'"),
        ("file,label\nnowhere.png,x\n", "no row names a file"),
        ("file,label\na/1.png,x\na/1.png,y\n", "line 3"),
        ("file,label\n", "no rows"),
        ("", "no column 'file'"),
        ('file,label\n"a/1.png,x\n', "not a CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(folder: Path, table: str, said: str) -> None:
    (folder / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=said) as error:
        find([str(folder)])
    assert "labels.csv" in str(error.value)


def test_a_table_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(b"file,label\n\xff\xfe,x")
    with pytest.raises(InputError, match=r"not a CSV.*labels\.csv"):
        find([str(folder)])
    with pytest.raises(InputError, match=r"cannot read the labels.*nowhere\.csv"):
        find([str(folder)], labels="nowhere.csv")


def test_missing_and_empty_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such source.*nowhere"):
        find([str(tmp_path / "nowhere")])
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(InputError):
        find([str(tmp_path)])
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(InputError, match="no files here"):
        find([str(tmp_path)])


def test_s3_prefixes_and_objects(s3: str) -> None:
    store = open_store(s3)
    for key, data in (("a/1.png", b"one"), ("b/2.png", b"two"), ("labels.csv", b"file,label\na/1.png,x\n")):
        store.create(key, data)
    found = find([s3])
    assert [(item.source.name, item.label) for item in found] == [(f"{s3}/a/1.png", "x"), (f"{s3}/b/2.png", "")]
    assert [item.source.fetch() for item in found if item.source.fetch] == [b"one", b"two"]
    assert [item.source.name for item in find([f"{s3}/a/1.png"])] == [f"{s3}/a/1.png"]
    with pytest.raises(InputError, match="no files here"):
        find([f"{s3}/nowhere"])
    with pytest.raises(StoreError, match="bucket"):
        find(["s3://no-such-bucket-here/x"])


def test_objects_that_go_or_are_too_large_cost_themselves(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3)
    for key, data in (("a", b"12"), ("b", b"123"), ("c", b"1"), ("d", b"")):
        store.create(key, data)
    monkeypatch.setattr("medgan_ray.ingest.sources.Limits", lambda: Limits(file_bytes=2))
    found = find([s3])
    store.delete("c")
    got = []
    for item in found:
        assert item.source.fetch
        try:
            got.append(item.source.fetch())
        except Refused as refusal:
            got.append(refusal.code)
    assert got == [b"12", "too_large", "unreadable", b""]
    store.replace("a", b"34")
    assert find([s3])[0].stamp != found[0].stamp


def test_what_is_found_is_small(folder: Path) -> None:
    """There may be millions of files, and the list of them is held."""
    for number in range(2000):
        (folder / "a" / f"IM{number:06}.dcm").touch()
    find([str(folder)])
    tracemalloc.start()
    try:
        found = find([str(folder)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(found) < 450 + len(str(folder))


@pytest.mark.parametrize(("labels", "label", "group"), [("auto", "", "a"), ("folders", "a", "p"), ("none", "", "a")])
def test_folders_can_be_patients(tmp_path: Path, labels: str, label: str, group: str) -> None:
    (tmp_path / "a" / "p").mkdir(parents=True)
    (tmp_path / "a" / "p" / "1.png").touch()
    found = find([str(tmp_path)], labels, groups="folders")
    assert [(each.label, each.group, each.folder) for each in found] == [(label, group, "")]


def test_an_unknown_attribute_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"ingest\.groups"):
        find([str(folder)], groups="attribute:PatientNickname")
