"""What a decoding process imports: little, no HTTP client, and decoders' libraries when they are asked for."""

import subprocess
import sys

KEPT_OUT = (
    "requests",
    "urllib3",
    "urllib.request",
    "gdcm",
    "pylibjpeg",
    "jpeg_ls",
    "PIL.ImageCms",
    "scipy",
    "subprocess",
)

CODE = f"""
import sys
from medgan_ray.dicom import child, lean
lean.keep_out()
from medgan_ray.dicom import read
from medgan_ray.ingest import shrink
there = [name for name in {KEPT_OUT} if sys.modules.get(name)]
assert there == [], there
for plugin, name in (("gdcm", "gdcm"), ("pylibjpeg", "openjpeg"), ("pyjpegls", "jpeg_ls")):
    try:
        __import__(name)
        raise SystemExit(name)
    except ImportError:
        lean.let_in(plugin)
        __import__(name)
lean.let_in("pillow")
"""


def test_a_decoding_process_imports_what_it_needs() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
