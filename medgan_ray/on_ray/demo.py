"""The demo with Ray: training on two workers, a small search, and the model served and asked once."""

import contextlib
import io
import json
import os
import socket
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from medgan_ray.config import merge
from medgan_ray.errors import StoreError
from medgan_ray.host import Host
from medgan_ray.on_ray import session
from medgan_ray.on_ray.serve import running
from medgan_ray.on_ray.settings import ServeSettings
from medgan_ray.on_ray.train import most, train
from medgan_ray.on_ray.tune import tune
from medgan_ray.verbs import demo as verb
from medgan_ray.verbs.demo_page import Answer, Search
from medgan_ray.verbs.train import TrainResult

SPACE: dict[str, Any] = {
    "metric": "whole_ratio",  # trials as short as these leave the score's bounds
    "trials": 4,
    "images": 1280,
    "scheduler": "asha",
    "searcher": "random",
    "space": {"train.lr": {"loguniform": [3.0e-4, 3.0e-3]}, "train.gamma": {"choice": [2.5, 5, 10, 20]}},
}
TRIALS: dict[str, Any] = {"train": {"figure_samples": 128, "floor_draws": 5, "checkpoint_images": 320}}
"""What keeps a short trial from spending its time on figures."""
ASKED, ANSWER_WITHIN_S = 4, 60


def demo(
    out: str,
    scans: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, float], None] | None = None,
    address: str | None = None,
) -> verb.DemoResult:
    """Walk the whole way with Ray; see ``verbs.demo.demo``.

    Args:
        out: a local folder for everything that is made.
        scans: a folder or s3:// prefix of real scans; None draws phantoms.
        config: options, laid over the demo's own; ``workers`` is 2 where there are two cores.
        say: told in a line what begins.
        progress: told images seen, images to see, images a second while training.
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.

    Raises:
        MedganError: what a step refuses.
    """
    own = {"workers": min(2, os.cpu_count() or 1)}
    with contextlib.ExitStack() as stack:
        steps = verb.Steps(
            train=partial(_train, stack, address), search=partial(_search, address), serve=partial(_serve, address)
        )
        return verb.demo(out, scans, merge(own, config or {}), say=say, progress=progress, steps=steps)


def _train(
    stack: contextlib.ExitStack, address: str | None, dataset: str, run: str, config: Mapping[str, Any], host: Host
) -> TrainResult:
    """Train, in a Ray instance that stays for the later steps."""
    stack.enter_context(session.local(address, cpus=max(most(config["workers"]), os.cpu_count() or 1)))
    return train(dataset, run, dict(config), address, host)


def _search(address: str | None, dataset: str, runs: str, config: Mapping[str, Any]) -> Search:
    shared = {key: value for key, value in config.items() if key not in ("images", "workers")}
    found = tune(dataset, runs, SPACE, merge(TRIALS, shared), address)
    names = list(SPACE["space"])
    rows = [
        (trial["name"], trial["state"], trial["score"], trial["images"], *map(trial.get, names))
        for trial in found.trials
    ]
    return Search(
        columns=("trial", "how it ended", "distance to real scans", "images seen", *names),
        rows=tuple(rows),
        stopped_early=sum(trial["state"] == "stopped" for trial in found.trials),
    )


def _serve(address: str | None, model: str) -> Answer:
    """Serve the model behind a fresh key, ask for scans once it is warm, and end the service."""
    with tempfile.TemporaryDirectory(prefix="medgan-demo-") as folder:
        key = session.write_token(Path(folder) / "keys").read_text("utf-8").strip()
        settings = ServeSettings(port=_free_port(), keys_file=f"{folder}/keys")
        with running([str(Path(model).absolute())], settings, address, no_auth=False) as url:
            _ask(url, key)
            began = time.monotonic()
            images = _ask(url, key)
            return Answer(url=url, images=images, wait_s=time.monotonic() - began)


def _ask(url: str, key: str) -> int:
    """Return how many pictures the service sent."""
    request = urllib.request.Request(  # noqa: S310 - our own http address
        f"{url}/v1/generate",
        data=json.dumps({"n": ASKED, "seed": 1, "format": "png"}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310
            return len(zipfile.ZipFile(io.BytesIO(answer.read())).namelist())
    except OSError as error:
        raise StoreError("the service did not answer", url, str(error)) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((session.LOOPBACK, 0))
        return int(probe.getsockname()[1])
