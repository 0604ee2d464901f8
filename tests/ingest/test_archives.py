"""Archives: members by name, each read alone and checked; what is hostile costs itself and is named."""

import gzip
import io
import pickle
import stat
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from medgan_ray.dicom.refusals import REFUSALS, Refused
from medgan_ray.errors import InputError, StoreError
from medgan_ray.ingest import archives
from medgan_ray.ingest.sources import find
from medgan_ray.store import open_store
from tests.dicom.fuzzing.mutations import mutate
from tests.dicom.fuzzing.seeds import Seed

FILES = {"a/1.png": b"one" * 1000, "b/2.dcm": bytes(range(256)) * 9, "b/empty": b""}
SHORT_CASES = 400
"""Mutations of each archive: as many as take two seconds."""


def pack(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data, zipfile.ZIP_STORED if name.startswith("b") else None)
    else:
        with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def read(path: Path | str) -> dict[str, bytes | str]:
    """Return each member's bytes, or the code and detail of its refusal."""
    result: dict[str, bytes | str] = {}
    for name, source, _ in archives.members(str(path)):
        assert source.fetch is not None
        try:
            result[name] = source.fetch()
        except Refused as refusal:
            result[name] = f"{refusal.code}: {refusal.detail}"
    return result


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "X.TGZ"])
def test_members_are_read_one_by_one(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name.lower()).rename(tmp_path / name)
    assert archives.is_archive(str(path)) and read(path) == FILES
    fetches = pickle.loads(pickle.dumps([source.fetch for _, source, _ in archives.members(str(path))]))
    assert [fetch() for fetch in reversed(fetches)] == list(reversed(FILES.values()))


def test_other_files_are_no_archives_whatever_their_name(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar", "x.tar.gz", "y.dcm"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 500)
        assert not archives.is_archive(str(tmp_path / name))
    assert not archives.is_archive(str(tmp_path / "nowhere.zip"))
    pack(tmp_path / "z.zip").rename(tmp_path / "volume.npz")
    assert not archives.is_archive(str(tmp_path / "volume.npz"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_archive_is_a_source_and_a_file_of_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / "c").mkdir(parents=True)
    table = {"labels.csv": b"file,label,patient\na/1.png,x,p1\n", "__MACOSX/a": b"", ".hidden": b""}
    alone = pack(tmp_path / name, FILES | table)
    found = find([str(alone)])
    assert [item.source.name for item in found] == [f"{alone}/{key}" for key in FILES]
    assert (found[0].label, found[0].group) == ("x", "p1")
    pack(tmp_path / "in" / name)
    pack(tmp_path / "in" / "c" / name)
    found = find([str(tmp_path / "in")])
    assert [item.source.name.removeprefix(f"{tmp_path}/in/") for item in found] == [
        *(f"c/{name}/{key}" for key in FILES),
        *(f"{name}/{key}" for key in FILES),
    ]
    assert [item.folder for item in found] == ["c", "c", "c", "a", "b", "b"]


def test_names_that_climb_out_links_and_devices_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("../../etc/passwd", "/etc/shadow", "..\\up", "C:\\x"):
            archive.writestr(name, b"gotcha")
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("sym", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("../up"))
    for path, count in ((tmp_path / "x.zip", 5), (tmp_path / "x.tar", 4)):
        members = read(path)
        assert len(members) == count and all(str(said).startswith("unreadable: ") for said in members.values())
        assert not any(".." in name or name.startswith("/") for name in members)


def test_encrypted_members_and_strange_methods_are_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert read(path) == FILES | {"a/1.png": "unreadable: encrypted"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x" * 100)
    assert str(read(path)["a"]).startswith("unreadable: packed")


def test_bombs_are_refused_by_their_claims_and_by_what_they_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1 << 16)
    path = pack(tmp_path / "x.zip", {"a": bytes(1 << 20)})
    assert str(read(path)["a"]).startswith("too_large")
    assert str(read(pack(tmp_path / "x.tgz", {"a": bytes(1 << 20)}))[""]).startswith("too_large")
    data = path.read_bytes()
    path.write_bytes(data.replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert read(path)["a"] == "unreadable: damaged in the archive"
    monkeypatch.setattr(archives, "MEMBER_BYTES", 100)
    assert str(read(pack(tmp_path / "y.tar", {"a": bytes(101)}))["a"]).startswith("too_large")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    assert list(read(pack(tmp_path / "z.tar", FILES))) == ["a/1.png", "b/2.dcm", ""]


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": bytes(range(256)) * 50, "b": b"x"})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02")
    data[second + 16 : second + 28] = data[first + 16 : first + 28]
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    data[first + 20 : first + 24] = data[second + 20 : second + 24] = len(data).to_bytes(4, "little")
    path.write_bytes(data)
    assert read(path) == {"": "unreadable: members of the archive overlap"}


def test_what_is_damaged_costs_itself(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 45] ^= 0xFF
    path.write_bytes(data)
    assert read(path) == FILES | {"a/1.png": "unreadable: damaged in the archive"}
    path.write_bytes(data[:-30])
    assert list(read(path)) == [""]
    tar = pack(tmp_path / "x.tar")
    tar.write_bytes(tar.read_bytes()[:5000])
    members = read(tar)
    assert members["a/1.png"] == FILES["a/1.png"] and str(members["b/2.dcm"]).startswith("unreadable: cut short")
    packed = tmp_path / "y.tar.gz"
    packed.write_bytes(gzip.compress(pack(tmp_path / "x.tar").read_bytes())[:60])
    assert all(str(said).startswith("unreadable") for said in read(packed).values())
    packed.write_bytes(b"\x1f\x8bbroken")
    assert list(read(packed)) == [""]


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5 << 30
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(6 << 30)
    assert str(read(path)[""]).startswith("unreadable")


def test_an_archive_of_archives_is_not_opened_twice(tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner.zip").read_bytes()
    assert list(read(pack(tmp_path / "outer.zip", {"inner.zip": inner}))) == ["inner.zip"]
    with pytest.raises(InputError, match="no files here"):
        find([str(pack(tmp_path / "empty.zip", {}))])


def test_archives_on_s3_are_read_in_ranges(s3: str, tmp_path: Path) -> None:
    store = open_store(s3)
    for name in ("x.zip", "x.tar", "x.tar.gz"):
        store.create(f"in/{name}", pack(tmp_path / name).read_bytes())
        found = find([f"{s3}/in/{name}"])
        assert [item.source.name for item in found] == [f"{s3}/in/{name}/{key}" for key in FILES]
        assert [item.source.fetch() for item in found if item.source.fetch] == list(FILES.values())
    assert len(find([f"{s3}/in"])) == 9


def test_a_store_that_fails_is_no_broken_archive(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a network that stumbles would leave an archive out, with a reason that is none."""
    store = open_store(s3)
    for name in ("x.zip", "x.tar", "x.tar.gz"):
        store.create(name, pack(tmp_path / name).read_bytes())

    def fail(*_: object) -> bytes:
        raise StoreError("S3 failed", s3)

    monkeypatch.setattr(type(store), "read_range", fail)
    for name in ("x.zip", "x.tar", "x.tar.gz"):
        with pytest.raises(StoreError, match="S3 failed"):
            list(archives.members(f"{s3}/{name}"))


def test_too_many_members_are_refused_before_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    assert read(pack(tmp_path / "x.zip")) == {"": "too_large: more than 2 members"}
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert read(tmp_path / "x.zip") == FILES
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 100)
    assert str(read(tmp_path / "x.zip")[""]).startswith("too_large")


def test_headers_that_lead_back_are_no_loop(tmp_path: Path) -> None:
    """CVE-2025-8194: a negative size in a PAX header."""
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        for kind, data in ((tarfile.XHDTYPE, b"14 size=-1536\n"), (tarfile.REGTYPE, b"")):
            info = tarfile.TarInfo("x")
            info.type, info.size = kind, len(data)
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(-len(data) // 512 * -512, b"\0"))
        file.write(bytes(2048))
    members = read(path)
    assert len(members) <= 2 and str(members[""]).startswith("unreadable")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_an_archive_that_ends_between_members_is_said_to(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name)
    whole = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    cut = whole[: whole.index(b"b/2.dcm")]
    path.write_bytes(gzip.compress(cut) if name.endswith("gz") else cut)
    members = read(path)
    assert members.pop("") == "unreadable: cut short, members may be missing"
    assert members == {"a/1.png": FILES["a/1.png"]}


def test_a_damaged_end_costs_only_what_follows(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar.gz")
    path.write_bytes(path.read_bytes() + b"garbage")
    members = read(path)
    assert str(members.pop("")).startswith("unreadable: cut short") and members == FILES


def test_archives_that_take_turns_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive a patient: several are read at the same time."""
    made: list[str] = []
    monkeypatch.setattr(
        archives.tempfile, "TemporaryFile", lambda **_: made.append("") or io.FileIO(tmp_path / f"{len(made)}", "w+")
    )
    archives.forget()
    sources = [list(archives.members(str(pack(tmp_path / f"{n}.tgz", {"a": b"%d" % n, "b": b""})))) for n in range(4)]
    for _ in range(2):
        assert [each[0].source.fetch() for each in sources if each[0].source.fetch] == [b"0", b"1", b"2", b"3"]
    assert len(made) == 4
    monkeypatch.setattr(archives, "KEPT_BYTES", 0)
    assert [each[0].source.fetch() for each in sources if each[0].source.fetch] == [b"0", b"1", b"2", b"3"]
    archives.forget()


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_archive_that_is_replaced_is_another(s3: str, tmp_path: Path, name: str) -> None:
    """With members of the same names and sizes: neither its bytes nor its stamps are those of before."""
    store = open_store(s3)
    seen = []
    for text in (b"one", b"two"):
        store.replace(name, pack(tmp_path / name, {"a": text}).read_bytes())
        for uri in (f"{s3}/{name}", str(tmp_path / name)):
            [member] = archives.members(uri)
            assert member.source.fetch and member.source.fetch() == text
            seen.append(member.stamp)
    assert seen[0] != seen[2] and seen[1] != seen[3]


@pytest.mark.fuzz
def test_broken_archives_end_as_bytes_or_a_reason(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Mutation number N is the same every time: ``--fuzz-first N --fuzz-cases 1`` has it again."""
    first, asked = pytestconfig.getoption("--fuzz-first"), pytestconfig.getoption("--fuzz-cases")
    ends: Counter[str] = Counter()
    for name in ("x.zip", "x.tar", "x.tgz"):
        path = pack(tmp_path / name)
        seed = Seed(name, *_without_packing(path.read_bytes()))
        for number in range(first, first + (SHORT_CASES if asked is None else asked // 100)):
            path.write_bytes(mutate(number, [seed]).data)
            begun = time.process_time()
            archives.is_archive(str(path))
            for member in read(path).values():
                ends[member.partition(":")[0] if isinstance(member, str) else "bytes"] += 1
            archives.forget()
            assert time.process_time() - begun < 2, (name, number)
    assert ends.keys() <= {"bytes", *REFUSALS}
    assert asked is not None or (ends["bytes"] > SHORT_CASES and ends["unreadable"] > SHORT_CASES)


def _without_packing(data: bytes) -> tuple[bytes, bytes]:
    """Return what a seed is made of: the bytes to break, and the packed ones if they were packed."""
    return (gzip.decompress(data), data) if data[:2] == b"\x1f\x8b" else (data, b"")
