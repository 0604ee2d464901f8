"""cluster.yaml passes Ray's own validator, what is broken doesn't; the Kubernetes twin agrees with it."""

from pathlib import Path

import pytest
import yaml

from medgan_ray.errors import InputError, UsageError
from medgan_ray.on_ray import session, timeouts

ROOT = Path(__file__).resolve().parents[2]


def test_cluster_file_passes_rays_validator() -> None:
    prepared = session.check_cluster_file(ROOT / "cluster.yaml")
    types = prepared["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceType"] == "g5.xlarge"
    assert types["head"]["resources"]["CPU"] == 0, "no work on the head"
    assert all("IamInstanceProfile" in kind["node_config"] for kind in types.values()), "S3 by the instance's role"
    for commands in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        assert any("RAY_AUTH_MODE=token" in command and "ray start" in command for command in commands)


@pytest.mark.parametrize(
    ("old", "new"),
    [("max_workers: 8\nidle", "max_wokers: 8\nidle"), ("head_node_type: head", "head_node_type: haed")],
    ids=["unknown key", "unknown head type"],
)
def test_a_broken_cluster_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str) -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert old in text
    broken = tmp_path / "cluster.yaml"
    broken.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match="Ray refuses the cluster file") as refused:
        session.check_cluster_file(broken)
    assert "\n" not in str(refused.value)


def test_a_missing_cluster_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        session.check_cluster_file("nowhere.yaml")


def test_kubernetes_twin_has_the_same_ray_and_a_token() -> None:
    twin = yaml.safe_load((ROOT / "deploy" / "kuberay.yaml").read_text())
    assert (twin["apiVersion"], twin["kind"]) == ("ray.io/v1", "RayCluster")
    spec = twin["spec"]
    assert spec["rayVersion"] == session.RAY_VERSION
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        for container in group["template"]["spec"]["containers"]:
            assert not {"AWS_SECRET_ACCESS_KEY"} & {each["name"] for each in container["env"]}


def test_heads_ask_nodes_as_often_as_a_local_instance() -> None:
    prepared = session.check_cluster_file(ROOT / "cluster.yaml")
    command = " ".join(prepared["head_start_ray_commands"])
    assert all(f"{name}={value}" in command for name, value in timeouts.CORE.items())
    twin = yaml.safe_load((ROOT / "deploy" / "kuberay.yaml").read_text())
    (head,) = twin["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in head["env"]}
    assert timeouts.CORE.items() <= environment.items()
