"""A publisher in a process of its own, without torch: publish small versions until there are enough, or one is killed.

python publisher.py MODEL COUNT    # prints a line when it begins
"""

import subprocess
import sys
from pathlib import Path

from medgan_ray.artifacts import registry
from medgan_ray.store import Store

ROOT = Path(__file__).resolve().parents[2]


def start(model: Store, count: int) -> "subprocess.Popen[str]":
    """Start a publisher; it has begun when this returns."""
    words = [sys.executable, "-m", "tests.artifacts.publisher", model.uri, str(count)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "begins\n"
    return process


def files_of(number: int, now: str) -> dict[str, bytes]:
    """Return files that tell whose they are, large enough to be torn."""
    return {name: f"{name} of {number} at {now}\n".encode() * 2000 for name in NAMES}


NAMES = ("model.safetensors", "model.json", "card.md", "evaluation.json")

if __name__ == "__main__":
    model = registry.open_model(sys.argv[1])
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    for _ in range(int(sys.argv[2])):
        registry.publish(model, files_of)
