"""De-identification: keyed hashes, coded attributes, a key that stays private."""

import stat
from pathlib import Path

import pytest

from medgan_ray.dicom.facts import Facts
from medgan_ray.errors import UsageError
from medgan_ray.ingest.deidentify import (
    KEY_VARIABLE,
    SubjectKey,
    attributes,
    check_key,
    identities,
    identity,
    subject_key,
)


def test_a_hash_depends_on_the_key() -> None:
    a, b = SubjectKey(b"a" * 16), SubjectKey(b"b" * 16)
    assert a.hash("patient:1") == a.hash("patient:1") != b.hash("patient:1")
    assert len(a.hash("x")) == 64
    assert a.fingerprint != b.fingerprint


def test_the_environment_gives_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    assert subject_key() == SubjectKey(b"0123456789abcdef")
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(UsageError, match="too short"):
        subject_key()


def test_a_fresh_key_is_kept_private_and_its_loss_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first, again = subject_key(), subject_key()
    assert first.secret == again.secret
    assert "without it" in first.keep() and again.keep() == subject_key().keep() == ""
    assert subject_key().secret == first.secret
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in files] == [("subject.key", 0o600)]


def test_two_keys_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another key comes back, from a copy, while patients are hashed with a fresh one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    fresh = subject_key()
    (tmp_path / "medgan-ray" / "subject.key").write_text("the one that was lost")
    with pytest.raises(UsageError, match="another subject key was kept meanwhile"):
        fresh.keep()
    assert subject_key().secret == b"the one that was lost" and subject_key().keep() == ""


def test_no_key_is_made_where_it_could_match_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="there is no subject key"):
        subject_key(make=False)
    assert list(tmp_path.rglob("*")) == []
    made = subject_key(make=True)
    assert made.secret == subject_key(make=False).secret  # a driver may have died before it was kept
    made.keep()
    assert made.secret == subject_key(make=False).secret


def test_an_emptied_key_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    subject_key().keep()
    (tmp_path / "medgan-ray" / "subject.key").write_text("\n")
    with pytest.raises(UsageError, match="too short"):
        subject_key()


def test_another_key_is_refused_in_one_line() -> None:
    key = SubjectKey(b"a" * 16)
    check_key(key, key.fingerprint, "heads")
    with pytest.raises(UsageError, match="another subject key") as refused:
        check_key(SubjectKey(b"b" * 16), key.fingerprint, "heads")
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)


def test_every_form_of_an_identity_is_known() -> None:
    assert identity(Facts(patient="P1"), "") in identities("P1")
    assert identity(Facts(), "P1") in identities("P1")
    assert identity(Facts(study="1.2"), "") in identities("1.2")
    assert identity(Facts(series="1.2"), "") in identities("1.2")


def test_a_patient_is_told_by_the_table_first() -> None:
    facts = Facts(patient=" P1 ", study="1.2", series="1.2.3")
    assert identity(facts, "G") == "group:G"
    assert identity(facts, "") == "patient:P1"
    assert identity(Facts(study="1.2", series="1.2.3"), "") == "study:1.2"
    assert identity(Facts(), "") == ""


def test_attributes_are_codes_never_text() -> None:
    facts = Facts(sex="f", age_years=47, maker="GE MEDICAL SYSTEMS", view="PA")
    assert attributes(facts) == (0, 4, 0, 1)
    assert attributes(Facts(sex="Doe", age_years=999, maker="Dr. Doe's own", view="Doe")) == (-1, -1, -1, -1)
