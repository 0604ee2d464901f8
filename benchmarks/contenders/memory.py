"""Peak memory of ingest: of the process that calls it, and of it with its decoding processes."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from medgan_ray.verbs.phantom import make_phantoms

COUNTS = (100, 10_000)
SLICES = 4
GOAL = 1.2
LOOK_S = 0.02
_RUN = (
    "import sys; from medgan_ray.verbs.ingest import ingest_scans\n"
    "print(ingest_scans(sys.argv[1], sys.argv[2], {'size': 64, 'ingest': {'workers': 2}}).samples)"
)


def show(environment: dict[str, str]) -> None:
    """Ingest a small and a large archive of phantoms and print the peaks and their ratio."""
    print(f"{'files':>7} {'samples':>8} {'caller, MiB':>12} {'with decoding processes, MiB':>29}")
    peaks = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory(prefix="benchmark-ingest-") as folder:
            make_phantoms(f"{folder}/in", patients=count // SLICES, slices=SLICES, size=64)
            samples, alone, together = _watched(f"{folder}/in", f"{folder}/out", environment)
        peaks.append((alone, together))
        print(f"{count:>7} {samples:>8} {alone / 1024:>12.0f} {together / 1024:>29.0f}")
    ratios = [large / small for small, large in zip(*peaks, strict=True)]
    grown = (peaks[1][0] - peaks[0][0]) * 1024 / (COUNTS[1] - COUNTS[0])
    verdict = "reached" if max(ratios) <= GOAL else "not reached"
    print(f"ratio {ratios[0]:.2f} and {ratios[1]:.2f}, goal {GOAL}: {verdict}; {grown:,.0f} bytes a file in the caller")


def _watched(source: str, out: str, environment: dict[str, str]) -> tuple[int, int, int]:
    """Return samples, the peak of resident memory of a process, and the largest of it with its children, kB."""
    command = [sys.executable, "-c", _RUN, source, out]
    alone = together = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=LOOK_S)
                break
            except subprocess.TimeoutExpired:
                alone = max(alone, _peak(process.pid))
                together = max(together, alone + sum(map(_peak, _children(process.pid))))
    return int(output), alone, together


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it ended
        return []


def _peak(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
