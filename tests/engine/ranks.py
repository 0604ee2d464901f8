"""Run the ranks of a training as processes of this machine, without Ray, and note what each of them sees."""

import hashlib
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as distributed

from medgan_ray.host import LocalHost
from medgan_ray.verbs.train import begin, train_rank

WITHIN_S = 180


class Stopping(LocalHost):
    """Ask to stop after some lines of the log; remember what was said."""

    def __init__(self, after: int = 10**9, rank: int = 0, world: int = 1) -> None:
        super().__init__(rank, world)
        self.left, self.said = after, []

    def progress(self, images, total, rate):
        self.left -= 1

    def should_stop(self):
        return self.left <= 0

    def log(self, text):
        self.said.append(text)


def train_on(world, dataset, config, run="", after=10**9):
    """Train on so many ranks; return the run's folder. ``after`` lines of the log the ranks stop."""
    folder = Path(tempfile.mkdtemp())
    run = run or str(folder / "run")
    begin(dataset, run, config)
    spawn = multiprocessing.get_context("spawn")
    ranks = [
        spawn.Process(target=_rank, args=(rank, world, folder, dataset, run, config, after)) for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(WITHIN_S)
        assert rank.exitcode == 0
    return run


def seen(run):
    """Return what was shown at each position: {phase position: digests of the image and, of generators, the noise}."""
    found = {}
    for path in sorted(Path(run).glob("seen-*.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            assert found.setdefault(line["where"], line["what"]) == line["what"]
    return found


def digest(found):
    """Return one digest of all that was seen."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _rank(rank, world, folder, dataset, run, config, after):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    if world > 1:
        store = distributed.FileStore(str(folder / "rendezvous"), world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    with Path(run, f"seen-{os.getpid()}.jsonl").open("w") as file:
        _take_notes(file)
        train_rank(dataset, run, config, Stopping(after, rank, world))
    # Gloo's threads outlive the group, and one that is still letting go of a tensor aborts an interpreter that ends.
    os._exit(0)


def _take_notes(file):
    """Have every task of this process write down what it is shown."""
    from medgan_ray.tasks import generate, recognize

    class Shown(recognize.RecognizeTask):
        def losses(self, phase, share, values):
            for position, image in zip(share.positions, share.samples.image, strict=True):
                what = hashlib.sha256(image.tobytes()).hexdigest()
                file.write(json.dumps({"where": f"{phase} {position}", "what": what}) + "\n")
            return super().losses(phase, share, values)

    class Noted(generate.GenerateTask):
        def losses(self, phase, share, values):
            noises = []
            hook = self.networks["generator"].register_forward_pre_hook(lambda _, given: noises.append(given[0]))
            found = super().losses(phase, share, values)
            hook.remove()
            for position, image, noise in zip(share.positions, share.samples.image, noises[0], strict=True):
                what = [hashlib.sha256(bytes(each)).hexdigest() for each in (image, noise.numpy())]
                file.write(json.dumps({"where": f"{phase} {position}", "what": what}) + "\n")
            return found

    generate.GenerateTask = Noted
    recognize.RecognizeTask = Shown
