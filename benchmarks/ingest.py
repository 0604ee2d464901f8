"""Claim: ingest decodes in disposable processes at pydicom's own speed, and memory does not grow with the archive.

    python benchmarks/ingest.py ../shared/data --peers out/peers      # --install-peers makes that environment first
    python benchmarks/ingest.py ../shared/data --memory

Runs, in turn and several times, over files of ct_multi_patient/, ct_series/head_jpeg_lossless and dicom_corpus/, each
repeated to some thousand: reading and copying the bytes (the limit); pydicom alone (read, decode, rescale to
float32); our decoding (the values come back from one disposable process, or two); our ingest (find, decode, rescale,
resize, hash, split, write; and the same with the search for text in pixels, which is the default); SimpleITK and
MONAI doing the same file by file; dcm2niix (to NIfTI, whole folder). One thread each. Wall seconds leave out what
each imports, and count the start of our decoding processes, which is also stated. Ratios are of runs in the same
round; processor seconds are those of a process and its children, for a machine that is not idle.

With --memory: the peak memory of a process that ingests 100 phantoms, and of one that ingests 10,000.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from contenders import archives, memory

HERE = Path(__file__).parent / "contenders"
ROOT = HERE.parents[1]
PEERS = ("torch==2.13.0", "monai==1.6.1", "SimpleITK", "itk", "numpy")
LIMIT_S = 3600
SETS: dict[str, tuple[str, Callable[[Path, Path, int], int], int]] = {
    "ct_multi_patient": ("ct_multi_patient", archives.repeat, 4000),
    "head_jpeg_lossless": ("ct_series/head_jpeg_lossless", archives.repeat, 1120),
    "dicom_corpus": ("dicom_corpus", archives.copy, 356),
}
"""Below the folder of scans; how it is repeated; to how many files."""

GOALS = (
    ("decode, 1 process", "pydicom alone", 1.0),
    ("ingest, 1 process", "pydicom alone", 0.6),
    ("ingest, 1 process", "SimpleITK", 2.0),
    ("ingest, 1 process", "MONAI", 4.0),
    ("ingest, 2 processes", "ingest, 1 process", 1.5),
)
"""The first is to be so many times as fast as the second."""


def main() -> None:
    """Make the archives, run what there is and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data"))
    words.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    words.add_argument("--share", type=float, default=1.0, help="of the files, for a quick look")
    words.add_argument("--side", type=int, default=64, help="pixels a side of the images that are written")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--peers", type=Path, help="a virtual environment with SimpleITK, MONAI and ITK")
    words.add_argument("--install-peers", action="store_true", help="make it with pip")
    words.add_argument("--memory", action="store_true")
    given = words.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
    )
    if given.memory:
        memory.show(_environment())
        return
    if given.install_peers:
        _install(given.peers)
    commands = _commands(given)
    print(f"one decoding process starts in {_start_s():.2f} s, counted below")
    for name in given.sets:
        with tempfile.TemporaryDirectory(prefix="benchmark-ingest-") as folder:
            source, repeat, count = SETS[name]
            count = repeat(given.scans / source, Path(folder) / "in", int(count * given.share))
            rounds = [_round(commands, Path(folder)) for _ in range(given.rounds)]
            print(f"\n{name}: {count} files, images of {given.side}x{given.side}, median of {given.rounds} (range)")
            _show(rounds)


def _environment() -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own = {"PYTHONPATH": str(ROOT), "MEDGAN_SUBJECT_KEY": "the key of a benchmark"}
    return {**os.environ, **threads, **own, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}


def _install(peers: Path | None) -> None:
    if peers is None:
        raise SystemExit("error: --install-peers: say where with --peers PATH")
    subprocess.run([sys.executable, "-m", "venv", str(peers)], check=True)
    subprocess.run([str(peers / "bin/pip"), "install", "--quiet", *PEERS], check=True)


def _commands(given: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command lines of the contenders that are there; IN and OUT stand for folders."""
    ours = [sys.executable, str(HERE / "ours.py")]
    side = str(given.side)
    found = {
        "read and copy": [*ours, "limit", "IN", "OUT", side, "1"],
        "pydicom alone": [*ours, "pydicom", "IN", "OUT", side, "1"],
        "decode, 1 process": [*ours, "decode", "IN", "OUT", side, "1"],
        "decode, 2 processes": [*ours, "decode", "IN", "OUT", side, "2"],
        "ingest, 1 process": [*ours, "ingest", "IN", "OUT", side, "1"],
        "ingest, 2 processes": [*ours, "ingest", "IN", "OUT", side, "2"],
        "and text search, 2": [*ours, "search", "IN", "OUT", side, "2"],
    }
    if given.peers:
        peers = [str(given.peers / "bin/python"), str(HERE / "peers.py")]
        found |= {"SimpleITK": [*peers, "simpleitk", "IN", "OUT", side], "MONAI": [*peers, "monai", "IN", "OUT", side]}
    else:
        print("SimpleITK and MONAI are left out: --peers PATH names their environment")
    if shutil.which("dcm2niix"):
        found["dcm2niix"] = ["dcm2niix", "-z", "n", "-w", "1", "-f", "%p_%s_%k", "-o", "OUT", "IN"]
    else:
        print("dcm2niix is left out: it is not installed")
    return found


def _start_s() -> float:
    """Return the median seconds from asking for a decoding process to its first answer."""
    code = (
        "import time; from medgan_ray.dicom.sandbox import Source, decode_one\n"
        "began = time.perf_counter(); decode_one(Source('empty', fetch=lambda: b''))\n"
        "print(time.perf_counter() - began)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def _round(commands: dict[str, list[str]], folder: Path) -> dict[str, dict[str, float]]:
    """Run every contender once; return its figures by its name."""
    figures = {}
    for name, command in commands.items():
        out = folder / "out"
        out.mkdir()
        words = [{"IN": str(folder / "in"), "OUT": str(out)}.get(word, word) for word in command]
        began, before = time.perf_counter(), os.times()
        done = subprocess.run(words, env=_environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        wall_s, after = time.perf_counter() - began, os.times()
        if name == "dcm2niix":
            count = sum(1 for _ in (folder / "in").iterdir())
            processor_s = sum(after[2:4]) - sum(before[2:4])
            written = len(list(out.glob("*.nii")))
            figures[name] = {"files": count, "taken": written, "wall_s": wall_s, "processor_s": processor_s}
        elif done.returncode:
            print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
        else:
            figures[name] = json.loads(done.stdout.splitlines()[-1])
        shutil.rmtree(out)
    return figures


def _show(rounds: list[dict[str, dict[str, float]]]) -> None:
    print(f"{'':>20} {'files/s':>8} {'':>17} {'x pydicom':>9} {'':>13} {'processor ms a file':>19} {'taken':>6}")
    for name in rounds[0]:
        rates = [row[name]["files"] / row[name]["wall_s"] for row in rounds]
        busy = statistics.median(1000 * row[name]["processor_s"] / row[name]["files"] for row in rounds)
        ratios = _ratios(rounds, name, "pydicom alone")
        print(
            f"{name:>20} {statistics.median(rates):>8,.0f} {f'({min(rates):,.0f} to {max(rates):,.0f})':>17}"
            f" {statistics.median(ratios):>9.2f} {f'({min(ratios):.2f} to {max(ratios):.2f})':>13}"
            f" {busy:>19.2f} {rounds[0][name]['taken']:>6.0f}"
        )
    for one, other, goal in GOALS:
        if all(one in row and other in row for row in rounds):
            ratio = statistics.median(_ratios(rounds, one, other))
            verdict = "reached" if ratio >= goal else "not reached"
            print(f"{one} over {other}: {ratio:.2f}, goal {goal}: {verdict}")


def _ratios(rounds: list[dict[str, dict[str, float]]], one: str, other: str) -> list[float]:
    """Return how many times as fast one was as the other, round by round."""
    return [row[other]["wall_s"] / row[one]["wall_s"] for row in rounds]


if __name__ == "__main__":
    main()
