"""``medgan-ray train``: a dataset in, a run out; the same command goes on where it stopped."""

from medgan_ray.cli.call import Call, verb
from medgan_ray.cli.show import TerminalHost


@verb("DATASET RUN", "medgan-ray train heads runs/1 images=75000 workers=2", placed=True)
def train(call: Call) -> None:
    """Train a generator, or with task=recognize a recognizer of classes.

    It learns from DATASET and keeps everything in RUN. The same command goes on where it stopped.
    """
    dataset, run = call.paths()
    with call.show.progress("train", "images") as bar:
        if call.placed:
            from medgan_ray.on_ray import train as on_ray

            result = on_ray.train(dataset, run, call.config, call.address, TerminalHost(bar))
        else:
            from medgan_ray.verbs import train as verbs

            result = verbs.train(dataset, run, call.local_config, TerminalHost(bar))
    call.show.result(result, "Trained." if result.complete else "Stopped at a checkpoint; the same command goes on.")
