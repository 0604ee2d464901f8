"""What may be known of a patient: a keyed hash, and a few coded attributes; free text is never carried.

The key comes from MEDGAN_SUBJECT_KEY, else from a file that is made once for this user and is never part of a dataset.
A fresh one waits under another name until patients are hashed with it: pictures of nobody in particular need none.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medgan_ray.dicom.facts import Facts
from medgan_ray.errors import UsageError

KEY_VARIABLE = "MEDGAN_SUBJECT_KEY"
KEY_LENGTH = 16

WITHDRAWN = "withdrawn:"
"""In a manifest's list of subjects: followed by the place of one that was withdrawn, so that no two are equal."""

ATTRIBUTES = ("sex", "age_decade", "maker", "view")
SEXES = ("F", "M", "O")
MAKERS = (
    "ge", "siemens", "philips", "canon", "toshiba", "hitachi", "fuji", "agfa", "carestream", "kodak", "hologic",
    "samsung", "shimadzu", "united imaging", "neusoft", "mindray", "bruker",
)  # fmt: skip
VIEWS = ("AP", "PA", "LL", "RL", "LAO", "RAO", "CC", "MLO", "ML", "LM")


@dataclass(frozen=True)
class SubjectKey:
    """The secret that turns identifiers into hashes; ``path`` is where it will be kept if it is not yet."""

    secret: bytes
    path: str = ""

    @property
    def fingerprint(self) -> str:
        """A short name of the key that gives nothing of it away."""
        return hashlib.sha256(b"medgan-ray subject key\0" + self.secret).hexdigest()[:16]

    def hash(self, identity: str) -> str:
        """Return the HMAC-SHA256 of an identifier as 64 hexadecimal digits."""
        return hmac.new(self.secret, identity.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def mark(self, subject: str) -> str:
        """Return what tells that a subject, given by its hash, was withdrawn: not that hash, which is to be nowhere."""
        return self.hash(f"withdrawn:{subject}")

    def keep(self) -> str:
        """Keep the key, since patients were hashed with it; return what its loss means if it was not kept before.

        Raises:
            UsageError: if another key was kept meanwhile, or the file cannot be written.
        """
        if not self.path:
            return ""
        path = Path(self.path)
        try:
            os.link(_waiting(path), path)
        except (FileExistsError, FileNotFoundError):  # another ingest was first
            _waiting(path).unlink(missing_ok=True)
            if not path.exists() or path.read_bytes().strip() != self.secret:
                fix = "run the same command again"
                raise UsageError("another subject key was kept meanwhile", self.path, fix) from None
            return ""
        except OSError as error:
            raise _cannot_keep(path, error) from None
        _waiting(path).unlink(missing_ok=True)
        return (
            f"made a subject key ({path}): keep it safe and apart from datasets; without it patients can't be matched "
            f"with later scans or withdrawn, and whoever has it can test whether a known patient is in a dataset"
        )


def subject_key(make: bool = True) -> SubjectKey:
    """Return the key from the environment, or this user's own, made when there is none and ``make`` allows it.

    Raises:
        UsageError: if the key is too short or missing, or the file cannot be read or written.
    """
    given = os.environ.get(KEY_VARIABLE, "")
    if given:
        if len(given) < KEY_LENGTH:
            raise UsageError("the subject key is too short", KEY_VARIABLE, f"give at least {KEY_LENGTH} characters")
        return SubjectKey(given.encode())
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = base / "medgan-ray" / "subject.key"
    if not make and not path.exists() and not _waiting(path).exists():
        raise UsageError("there is no subject key", str(path), f"set {KEY_VARIABLE} to the key of the dataset")
    try:
        kept = path.exists()
        secret = (path if kept else _made(path)).read_bytes().strip()
    except OSError as error:
        raise _cannot_keep(path, error) from None
    if len(secret) < KEY_LENGTH:
        raise UsageError("the subject key is too short", str(path), f"restore the file, or set {KEY_VARIABLE}")
    return SubjectKey(secret, "" if kept else str(path))


def check_key(key: SubjectKey, fingerprint: str, dataset: str) -> None:
    """Refuse to add to a dataset whose subjects were hashed with another key: nobody could be matched.

    Raises:
        UsageError: naming both keys by their fingerprints.
    """
    if key.fingerprint != fingerprint:
        what = f"this dataset was made with another subject key ({fingerprint}, not {key.fingerprint})"
        raise UsageError(what, dataset, f"set {KEY_VARIABLE} to the key that it was made with")


def _waiting(path: Path) -> Path:
    return path.with_name(f"{path.name}.unused")


def _made(path: Path) -> Path:
    """Return the file of a key that nobody was hashed with yet, made unless it is there."""
    waiting = _waiting(path)
    if not waiting.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_hex(32))
        # Two that start at once must end with one key: the first link wins.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, waiting)
        temporary.unlink()
    return waiting


def _cannot_keep(path: Path, error: OSError) -> UsageError:
    return UsageError("cannot keep a subject key", str(path), f"{error.strerror or error}; set {KEY_VARIABLE}")


def count_subjects(names: Iterable[str]) -> int:
    """Return how many subjects a manifest's list names, withdrawn ones left out."""
    return sum(bool(name) and not name.startswith(WITHDRAWN) for name in names)


def identities(known: str) -> tuple[str, ...]:
    """Return all that ``identity`` may have made of a patient's id, group, or study's or series' UID."""
    return tuple(f"{kind}:{known}" for kind in ("patient", "group", "study", "series"))


def identity(facts: Facts, group: str) -> str:
    """Return what tells one patient from another: the source's word first, then the header's; empty if neither."""
    if group or facts.group:
        return f"group:{group or facts.group}"
    for kind, value in (("patient", facts.patient), ("study", facts.study), ("series", facts.series)):
        if value.strip():
            return f"{kind}:{value.strip()}"
    return ""


def attributes(facts: Facts) -> tuple[int, ...]:
    """Return the codes of ``ATTRIBUTES``; -1 where unknown."""
    maker = facts.maker.lower()
    decade = facts.age_years // 10 if 0 <= facts.age_years < 130 else -1
    return _code(facts.sex.upper(), SEXES), decade, _maker(maker), _code(facts.view.upper(), VIEWS)


def word(attribute: str, code: int) -> str:
    """Return the value that a code of one of ``ATTRIBUTES`` stands for; empty where unknown."""
    if code < 0:
        return ""
    if attribute == "age_decade":
        return f"{10 * code}-{10 * code + 9}"
    return {"sex": SEXES, "maker": MAKERS, "view": VIEWS}[attribute][code]


def _code(value: str, known: tuple[str, ...]) -> int:
    return known.index(value) if value in known else -1


def _maker(maker: str) -> int:
    words = maker.replace("-", " ").replace("_", " ").split()
    return next((code for code, name in enumerate(MAKERS) if maker.startswith(name) or name in words), -1)
