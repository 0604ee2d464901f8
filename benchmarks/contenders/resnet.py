"""A ResNet-18 of MONAI, trained plainly: python resnet.py IN.npz OUT.npz --seconds 120 --seed 0

IN holds ``train`` and ``asked``, float32 [n, 1, H, W] in [-1, 1], and ``labels`` [n]; OUT gets ``probabilities``.
Adam, batches of 32, a learning rate that falls from 1e-3 as a half cosine over the seconds; no augmentation.
"""

import argparse
import math
import time

import numpy as np
import torch
from monai.networks.nets import resnet18

BATCH, RATE = 32, 1e-3


def main() -> None:
    """Train and answer."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("given")
    words.add_argument("found")
    words.add_argument("--seconds", type=float, default=120, help="CPU-seconds of this process")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    torch.manual_seed(given.seed)
    arrays = np.load(given.given)
    images, labels = torch.from_numpy(arrays["train"]), torch.from_numpy(arrays["labels"]).long()
    network = resnet18(spatial_dims=2, n_input_channels=images.shape[1], num_classes=int(labels.max()) + 1)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    began, seen = time.process_time(), 0
    while (spent := (time.process_time() - began) / given.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * spent)) / 2
        rows = torch.randint(len(images), (BATCH,))
        loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += BATCH
    network.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(arrays["asked"]).split(BATCH)
        probabilities = torch.cat([network(part).softmax(1) for part in parts])
    np.savez(given.found, probabilities=probabilities.numpy(), seen=seen)


if __name__ == "__main__":
    main()
