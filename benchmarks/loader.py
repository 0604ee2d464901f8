"""Claim: our loader gathers shuffled batches five times as fast as its peers, and half as fast as a bare memory map.

    python benchmarks/loader.py --peers out/peers                     # --install-peers makes that environment first
    python benchmarks/loader.py --s3 ../shared/tools/s3_server.sh     # cold, from a real S3 server that this starts

Gathers batches of 64 in shuffled order from 50,000 images of 128x128 (uint16, 1.6 GB), warm, on the local disk: our
order and shards, a bare memory map (the limit), WebDataset, MosaicML Streaming, and Ray Data over Parquet with a local
shuffle buffer, which reads the files in each pass or (materialized) holds all of it in shared memory. Peers in several
forms; the best counts. Ours shuffles across spans of 8 shards, the map across everything, the others across buffers.
Each contender is a process of its own, all in turn, several rounds. It makes three passes: one that doesn't count, one
in uint16, one in float32.

With --s3: ours with an empty cache (fetched, hashed, written, opened, gathered) beside plain parallel GETs of the same
objects by botocore in 8 threads, thrown away or written to files.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "contenders"
ROOT = HERE.parents[1]
SIDE = 128
PEERS = ("torch==2.13.0", "numpy", "webdataset==1.0.2", "mosaicml-streaming==0.13.0")
OWN = ("memmap", "ours")
RAY = ("ray", "ray-materialized", "ray-bytes", "ray-bytes-materialized")
THEIRS = ("webdataset-0", "webdataset-2", "mosaic-0", "mosaic-2")
WRITERS = (*OWN, "ray", "ray-bytes", "webdataset-0", "mosaic-0")
"""Each has files of its own; the others read theirs."""
COLD = ("gets", "gets-to-files", "ours-s3")
KINDS = ("uint16", "float32")
LIMIT_S = 600
PORT = 24700

Rounds = list[dict[str, float]]


def main() -> None:
    """Write the images, run what there is and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--images", type=int, default=50_000)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--peers", type=Path, help="a virtual environment with WebDataset and MosaicML Streaming")
    words.add_argument("--install-peers", action="store_true", help="make it with pip")
    words.add_argument("--s3", type=Path, metavar="TOOL", help="starts and stops an S3 server: TOOL start|stop FOLDER")
    words.add_argument("--skip", nargs="+", default=[], help="contenders to leave out")
    words.add_argument("--folder", type=Path, help="for the images; by default a temporary one")
    given = words.parse_args()
    if given.install_peers:
        _install(given.peers)
    with tempfile.TemporaryDirectory(prefix="benchmark-loader-", dir=given.folder) as folder:
        draw = np.random.default_rng(0)
        np.save(f"{folder}/images.npy", draw.integers(0, 65536, (given.images, 1, SIDE, SIDE), np.uint16))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.images} images of {SIDE}x{SIDE}")
        _warm(given, Path(folder))
        if given.s3:
            _cold(given, Path(folder))


def _install(peers: Path | None) -> None:
    if peers is None:
        raise SystemExit("error: --install-peers: say where with --peers PATH")
    subprocess.run([sys.executable, "-m", "venv", str(peers)], check=True)
    subprocess.run([str(peers / "bin/pip"), "install", "--quiet", *PEERS], check=True)


def _warm(given: argparse.Namespace, folder: Path) -> None:
    names = [name for name in (*OWN, *RAY, *(THEIRS if given.peers else ())) if name not in given.skip]
    if not given.peers:
        print("WebDataset and MosaicML Streaming are left out: --peers PATH names their environment")
    for name in names:  # what is read is written first, and lies in memory
        if name in WRITERS:
            _rates(given, folder, name)
    found = [{name: _rates(given, folder, name) for name in names} for _ in range(given.rounds)]
    peers = [name for name in names if name not in OWN]
    for kind in KINDS:
        rounds = [{name: rates[kind] for name, rates in row.items()} for row in found]
        _show(f"{kind}, warm, from the local disk", rounds, "ours")
        _judge(rounds, "ours", ["memmap"], 0.5)
        _judge(rounds, "ours", peers, 5.0)


def _cold(given: argparse.Namespace, folder: Path) -> None:
    server = folder / "s3"
    started = subprocess.run(
        ["bash", str(given.s3), "start", str(server), str(PORT), "scans"], capture_output=True, text=True, check=True
    )
    exports = dict(word.split("=", 1) for word in started.stdout.replace("export ", "").split())
    try:
        rounds: Rounds = []
        for _ in range(given.rounds + 1):
            row = {}
            for name in COLD:
                scratch = folder / "scratch"
                (scratch / "cache").mkdir(parents=True)
                (scratch / "images.npy").symlink_to(folder / "images.npy")
                extra = {**exports, "MEDGAN_CACHE": str(scratch / "cache")}
                row[name] = _rates(given, scratch, name, "s3://scans/benchmark", extra)["uint16"]
                shutil.rmtree(scratch)
            rounds.append(row)
        _show("cold, from S3", rounds[1:], "ours-s3")
        for other in ("gets", "gets-to-files"):
            _judge(rounds[1:], "ours-s3", [other], 1.0)
    finally:
        subprocess.run(["bash", str(given.s3), "stop", str(server)], capture_output=True, check=False)


def _rates(
    given: argparse.Namespace, folder: Path, name: str, where: str = "", extra: dict[str, str] | None = None
) -> dict[str, float]:
    """Run a contender in a process; return its images a second by kind, not a number if it failed."""
    python = given.peers / "bin/python" if name in THEIRS else sys.executable
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    cache = {"MEDGAN_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [str(python), str(HERE / "loaders.py"), name, str(folder), *([where] if where else ())]
    environment = {**os.environ, **threads, **cache, **(extra or {})}
    none = dict.fromkeys(KINDS, float("nan"))
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        print(f"{name} took longer than {LIMIT_S} s")
        return none
    if done.returncode:
        print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
        return none
    return {**none, **json.loads(done.stdout.splitlines()[-1])}


def _show(title: str, rounds: Rounds, own: str) -> None:
    print(f"\n{title}: images/s, median of {len(rounds)} (range), and how many times as fast ours was, by round")
    for name in rounds[0]:
        rates = [row[name] for row in rounds]
        ratios = [row[own] / row[name] for row in rounds]
        print(
            f"{name:>26} {statistics.median(rates):>9,.0f} {f'({min(rates):,.0f} to {max(rates):,.0f})':>22}"
            f" {statistics.median(ratios):>7.2f} {f'({min(ratios):.2f} to {max(ratios):.2f})':>16}"
        )


def _judge(rounds: Rounds, own: str, others: list[str], goal: float) -> None:
    """Say whether ours was so many times as fast as the best of the others, in the median of the rounds."""
    medians = {name: statistics.median(row[name] for row in rounds) for name in others}
    known = {name: rate for name, rate in medians.items() if rate == rate}
    if not known:
        return
    best = max(known, key=lambda name: known[name])
    ratio = statistics.median(row[own] / row[best] for row in rounds)
    print(f"{own} over {best}: {ratio:.2f}, goal {goal}: {'reached' if ratio >= goal else 'not reached'}")


if __name__ == "__main__":
    main()
