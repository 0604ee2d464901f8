"""A refusal is one line with a place and advice, and has its own exit code."""

import pytest

from medgan_ray import errors


def test_a_refusal_is_one_line():
    error = errors.InputError("shard is\ncorrupt", "heads", "ingest\nagain")
    assert str(error) == "shard is corrupt (heads): ingest again"


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (errors.MedganError, 1, 500),
        (errors.UsageError, 2, 400),
        (errors.GateRefusal, 3, 409),
        (errors.InputError, 4, 422),
        (errors.BrokenInput, 4, 400),
        (errors.InputTooLarge, 4, 413),
        (errors.UnknownType, 4, 415),
        (errors.StoreError, 5, 503),
        (errors.TrainingStopped, 6, 500),
        (errors.Interrupted, 130, 503),
    ],
)
def test_exit_codes_and_statuses_are_stable(kind, code, status):
    assert (kind.exit_code, kind.http_status) == (code, status)
    assert issubclass(kind, errors.MedganError)


def test_the_nearest_known_name_is_offered():
    assert errors.nearest("r3gen", ["r3gan", "dcgan"]) == "did you mean 'r3gan'?"
    assert errors.nearest("zzzz", ["r3gan", "dcgan"]) == "known: dcgan, r3gan"
