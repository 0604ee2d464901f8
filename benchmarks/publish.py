"""Two publishers at once, and publishers killed at random moments: is a version ever lost, or half there?

python benchmarks/publish.py                                        # to a local folder
python benchmarks/publish.py --s3 ../shared/tools/s3_server.sh      # to a real S3 server that this starts
python benchmarks/publish.py --at s3://bucket/prefix                # to S3 as the environment has it

Prints what is there afterwards; every version is read and held against its hashes. Ends with 1 if anything is wrong.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgan_ray import seeds
from medgan_ray.artifacts import registry
from medgan_ray.store import Store, is_remote
from tests.artifacts import publisher
from tests.artifacts.publisher import files_of

LONGEST_S = 0.3
"""A publisher is killed within so many seconds after it began; one version takes a few hundredths."""


def _check(model: Store) -> list[int]:
    """Return the versions that can be seen; each must be whole."""
    numbers = registry.contents(model).numbers
    for number in numbers:
        assert registry.verify(registry.version(model, number)) == 4
    return numbers


def together(model: Store, publishers: int, each: int) -> None:
    """Let several processes publish at once."""
    began = time.monotonic()
    running = [publisher.start(model, each) for _ in range(publishers)]
    codes = [process.wait() for process in running]
    seconds = time.monotonic() - began
    numbers, pointer = _check(model), registry.pointer(model)
    history = [entry["version"] for entry in pointer["history"]]
    print(f"{publishers} processes, {each} versions each, {seconds:.1f} s: exit codes {codes}")
    print(f"  {len(numbers)} versions, all whole: {numbers[0]} to {numbers[-1]}; current {pointer['version']}")
    print(f"  the pointer moved {len(history)} times, never back: {history == sorted(set(history))}")
    assert codes == [0] * publishers and len(numbers) == publishers * each
    assert pointer["version"] == numbers[-1] and history == sorted(set(history))


def killed(model: Store, times: int) -> None:
    """Kill publishers at random moments; after each, all that is seen must be whole."""
    draw, left, seen = seeds.generator("kills"), Counter[str](), 0
    for _ in range(times):
        before = set(registry.contents(model).orphans)
        running = publisher.start(model, 10**6)
        time.sleep(draw.uniform(0, LONGEST_S))
        running.kill()
        running.wait()
        orphans = set(registry.contents(model).orphans) - before
        left[f"{len(orphans)} files of a version without commit" if orphans else "nothing half done"] += 1
        seen = max(seen, *_check_new(model, seen))
    print(f"{times} publishers killed: they left {dict(left.most_common())}")
    found = registry.publish(model, files_of)
    numbers = _check(model)
    print(f"  {len(numbers)} versions, all whole; the next one got {found.number}; current {registry.current(model)}")
    assert registry.current(model) == found.number == numbers[-1]
    swept = registry.sweep(model)
    print(f"  swept {len(swept)} files; left over: {registry.contents(model).orphans}; versions {len(_check(model))}")
    assert not registry.contents(model).orphans


def _check_new(model: Store, seen: int) -> list[int]:
    """Check the versions above one that was checked before."""
    numbers = [number for number in registry.contents(model).numbers if number > seen]
    for number in numbers:
        assert registry.verify(registry.version(model, number)) == 4
    return [0, *numbers]


@contextlib.contextmanager
def _server(tool: str | None) -> Iterator[None]:
    if tool is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": ""}
        words = ["bash", tool, "start", folder, str(21000 + os.getpid() % 7000), "scans"]
        started = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
        os.environ.update(word.split("=", 1) for word in started.stdout.replace("export ", "").split())
        try:
            yield
        finally:
            subprocess.run(["bash", tool, "stop", folder], capture_output=True)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", help="a path or s3:// prefix; by default a temporary folder")
    parser.add_argument("--s3", metavar="TOOL", help="script that starts an S3 server")
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args()
    with _server(options.s3), tempfile.TemporaryDirectory() as folder:
        base = options.at or (f"s3://scans/{os.getpid()}" if options.s3 else folder)
        print(f"to {'S3' if is_remote(base) else 'a local folder'}")
        together(registry.open_model(f"{base}/together"), 2, options.each)
        killed(registry.open_model(f"{base}/killed"), options.kills)


if __name__ == "__main__":
    main()
