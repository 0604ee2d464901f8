"""Worker groups of Ray Train: they join and reduce, and nothing listens off loopback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_workers_reduce_and_serve_answers_on_loopback_alone(
    ray_instance: Path, tmp_path: Path, listening: Callable[[], dict[str, set[str]]]
) -> None:
    import threading
    import time

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from medgan_ray.on_ray.backend import ProcessGroupConfig

    def reduce(config: dict[str, Any]) -> float:
        import time

        import ray.train
        import torch

        value = torch.tensor([float(ray.train.get_context().get_world_rank() + 1)])
        torch.distributed.all_reduce(value)
        Path(config["flag"], f"up-{ray.train.get_context().get_world_rank()}").touch()
        while not Path(config["flag"], "seen").exists():
            time.sleep(0.1)
        return float(value)

    trainer = TorchTrainer(
        reduce,
        train_loop_config={"flag": str(tmp_path)},
        torch_config=ProcessGroupConfig(timeout_s=60),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="reduce", storage_path=str(ray_instance)),
    )
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(trainer.fit()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("up-*"))) < 2:
        assert time.monotonic() < deadline, "the group did not start"
        time.sleep(0.2)
    found = listening()
    (tmp_path / "seen").touch()
    thread.join(60)
    assert results[0].return_value == 3.0
    assert sum(len(names) for names in found.values()) >= 5, found
    assert set(found) == {"127.0.0.1"}, found


def test_gloo_is_given_the_interface_of_the_nodes_address() -> None:
    from medgan_ray.on_ray.backend import interface_of

    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None, "an address of documentation, nobody's"
