"""The spool: back by position, gone with the object."""

import numpy as np
import pytest

from medgan_ray.ingest.spool import Spool


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_images_come_back_by_position(dtype: type) -> None:
    spool = Spool((3, 5), dtype)
    images = np.arange(60).reshape(4, 3, 5).astype(dtype)
    for image in images[:3]:
        spool.append(image)
    np.testing.assert_array_equal(spool.read([2, 0]), images[[2, 0]])
    spool.append(images[3])
    np.testing.assert_array_equal(spool.read(range(len(spool))), images)
    spool.close()


def test_nothing_stands_in_the_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pixels must not be left behind by a run that is killed."""
    import tempfile
    from pathlib import Path

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool((2, 2), np.uint16)
    spool.append(np.ones((2, 2)))
    assert list(Path(str(tmp_path)).iterdir()) == []
    spool.close()
