"""What runs in the peers' environment: SimpleITK and MONAI decode, rescale, resize, hash and write, file by file.

python benchmarks/contenders/peers.py simpleitk|monai FOLDER OUT SIDE
"""

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import Each, report

LOW, HIGH = -1024.0, 3071.0
"""Hounsfield units that are mapped to 0 and 1."""


def simpleitk(out: Path, side: int) -> Callable[[list[str]], int]:
    """Read with SimpleITK, which rescales; resample linearly, which costs less than the mean over areas."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)

    def take(path: str) -> None:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(path)
        image = reader.Execute()
        size = image.GetSize()
        grid = [side, side, *size[2:]]
        spacing = [old * count / new for old, count, new in zip(image.GetSpacing(), size, grid, strict=True)]
        small = SimpleITK.Resample(
            image, grid, SimpleITK.Transform(), SimpleITK.sitkLinear,
            image.GetOrigin(), spacing, image.GetDirection(), 0.0, SimpleITK.sitkFloat32,
        )  # fmt: skip
        _write(out, np.clip((SimpleITK.GetArrayFromImage(small) - LOW) / (HIGH - LOW), 0, 1))

    return Each(take)


def monai(out: Path, side: int) -> Callable[[list[str]], int]:
    """Read with MONAI's transforms as its users chain them; its reader is ITK's, which was faster than pydicom's."""
    import torch
    from monai.transforms import Compose, LoadImage, Resize, ScaleIntensityRange

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chain = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            ScaleIntensityRange(LOW, HIGH, 0.0, 1.0, clip=True),
            _Flat(),
            Resize((side, side)),
        ]
    )
    return Each(lambda path: _write(out, np.asarray(chain(path))))


class _Flat:
    """ITK reads a slice as a volume of one; frames become channels."""

    def __call__(self, image: "np.ndarray") -> "np.ndarray":
        return image[0].permute(2, 0, 1) if image.ndim == 4 else image


def _write(out: Path, values: np.ndarray) -> None:
    stored = np.rint(values * 65535).astype(np.uint16)
    np.save(out / hashlib.sha256(stored.tobytes()).hexdigest(), stored)


def main() -> None:
    """Run what the command line names."""
    name, folder, out, side = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    report({"simpleitk": simpleitk, "monai": monai}[name](out, side), folder)


if __name__ == "__main__":
    main()
