"""A rank's host on Ray: gauges at Ray's Prometheus endpoint, and a checkpoint asked for when a node is drained."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from medgan_ray.on_ray import gauges, timeouts
from tests.on_ray import hosts, nodes

WITHIN_S = 30
"""A notice of preemption must become a checkpoint in this time."""


@pytest.mark.slow
def test_gauges_stand_at_rays_endpoint(ray_instance: Path) -> None:
    import ray

    gauges.put({"images_per_s": 12.5, "generator_loss": 0.25, "odd name": 1.0, "score": float("inf")}, "s3://b/run", 0)
    (node,) = ray.nodes()
    url, deadline = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", time.monotonic() + 60
    while True:
        lines = urllib.request.urlopen(url, timeout=5).read().decode().splitlines()
        ours = {line.partition("{")[0]: line for line in lines if line.startswith("ray_medgan_")}
        if ours or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert set(ours) == {"ray_medgan_images_per_s", "ray_medgan_generator_loss", "ray_medgan_odd_name"}
    line = ours["ray_medgan_images_per_s"]
    assert 'run="s3://b/run"' in line and 'rank="0"' in line and line.endswith(" 12.5")


def _on_rank(config: dict[str, Any]) -> None:
    """Report once when a checkpoint is asked for, and write down when that was and whether it is asked for again."""
    from medgan_ray.on_ray.board import Board
    from medgan_ray.on_ray.host import RayHost

    host, folder = RayHost(Board("drained")), Path(config["folder"])
    assert not host.should_checkpoint()
    (folder / f"up-{host.rank}").touch()
    while not host.should_checkpoint():
        time.sleep(0.1)
    noticed = time.time()
    assert not host.should_checkpoint(), "once a notice"
    host.report(8, {"score": 1.0}, "checkpoint")
    (folder / f"noticed-{host.rank}").write_text(f"{noticed} {host.should_checkpoint()}")


def _drained(folder: str) -> float:
    """Drain one of two nodes as a cloud's notice of preemption does; return when."""
    import threading

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from medgan_ray.on_ray.backend import ProcessGroupConfig

    with nodes.cluster(Path(folder)) as cluster:
        trainer = TorchTrainer(
            _on_rank,
            train_loop_config={"folder": folder},
            torch_config=ProcessGroupConfig(timeout_s=60),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(name="drained", storage_path=folder),
        )
        thread = threading.Thread(target=trainer.fit, daemon=True)
        thread.start()
        deadline = time.monotonic() + 150
        while len(list(Path(folder).glob("up-*"))) < 2:
            assert time.monotonic() < deadline, "the group did not start"
            time.sleep(0.1)
        began = time.time()
        drain = [Path(sys.executable).parent / "ray", "drain-node", "--address", cluster.address]
        drain += ["--node-id", next(iter(cluster.worker_nodes)).node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        drain += ["--reason-message", "the cloud takes it", "--deadline-remaining-seconds", "120"]
        subprocess.run(drain, check=True, capture_output=True, timeout=60)
        thread.join(120)
        return began


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_drained_node_asks_every_rank_for_one_checkpoint(tmp_path: Path) -> None:
    began = nodes.in_child(_drained, str(tmp_path))
    answers = [(tmp_path / f"noticed-{rank}").read_text().split() for rank in range(2)]
    assert all(float(noticed) - began < WITHIN_S for noticed, _ in answers), answers
    assert [again for _, again in answers] == ["False", "False"], "one notice, one checkpoint"


def test_the_page_on_clusters_names_every_gauge_and_port() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()
    assert all(f"`ray_{gauges.PREFIX}{name}`" in page for name in gauges.DESCRIPTIONS)
    for name, port in (hosts.PORTS | hosts.HEAD_PORTS).items():
        assert f"--{name}={port}" in page
    assert all(f"{name}={value}" in page for name, value in timeouts.CORE.items())
