"""A publisher in a process of its own, without torch: publish small versions until there are enough, or one is killed.

python publisher.py MODEL COUNT    # prints a line when it begins
"""

import sys

from medgan_ray.artifacts import registry


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
