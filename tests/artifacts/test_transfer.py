"""Runs that start from other weights: what fits is taken over, the rest is named, the run depends on no one else."""

import shutil

import numpy as np
import pytest
import torch

from medgan_ray.artifacts import checkpoints, runs, transfer
from medgan_ray.artifacts.tensors import from_bytes
from medgan_ray.artifacts.versions import read_model
from medgan_ray.errors import InputError, UsageError
from medgan_ray.host import LocalHost
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

STILL = {"lr": 1e-12, "lr_final": 1e-12, "ema_share": 0.0}
"""Rates at which a run keeps the weights that it starts from."""


class Listening(LocalHost):
    """Remember what was said."""

    def __init__(self):
        super().__init__()
        self.said = []

    def log(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset with two classes and a finished run on it."""
    folder = tmp_path_factory.mktemp("donor")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"))
    train(str(folder / "data"), str(folder / "run"), SMALL)
    return folder


def options(init_from, images=8, **given):
    return {**SMALL, "images": images, "train": {**SMALL["train"], **STILL, "init_from": str(init_from), **given}}


def newest(run):
    return checkpoints.newest(open_store(str(run)), lambda text: None).tensors


def test_a_run_starts_from_the_best_generator_and_the_newest_discriminator_of_another(trained, tmp_path):
    host = Listening()
    train(str(trained / "data"), str(tmp_path / "run"), options(trained / "run"), host)
    got, discriminator = newest(tmp_path / "run"), newest(trained / "run")
    best, _ = read_model(open_store(str(trained / "run")).child("best"))
    for name, value in best.items():
        torch.testing.assert_close(got[f"networks/generator/{name}"], value, rtol=0, atol=1e-9)
        torch.testing.assert_close(got[f"networks/average/{name}"], value, rtol=0, atol=1e-9)
    for name in (name for name in discriminator if name.startswith("networks/discriminator/")):
        torch.testing.assert_close(got[name], discriminator[name], rtol=0, atol=1e-9)
    assert any(said.startswith("starts from weights ") and said.endswith("afresh: nothing") for said in host.said)


def test_a_version_brings_a_generator_alone(trained, tmp_path):
    shutil.copytree(trained / "run" / "best", tmp_path / "version")
    host = Listening()
    train(str(trained / "data"), str(tmp_path / "run"), options(tmp_path / "version"), host)
    (said,) = (said for said in host.said if said.startswith("starts from weights "))
    assert "discriminator/stages.0.weight" in said and "generator/" not in said


def test_what_does_not_fit_starts_afresh_and_is_named(trained, tmp_path):
    write_dataset(str(tmp_path / "plain"))
    host = Listening()
    train(str(tmp_path / "plain"), str(tmp_path / "run"), options(trained / "run"), host)
    (said,) = (said for said in host.said if said.startswith("starts from weights "))
    afresh = set(said.partition("afresh: ")[2].split(", "))
    assert afresh == {"generator/start.weight", "discriminator/head.linear.weight", "discriminator/head.linear.bias"}
    best, _ = read_model(open_store(str(trained / "run")).child("best"))
    fitting = newest(tmp_path / "run")["networks/generator/stages.0.weight"]
    torch.testing.assert_close(fitting, best["stages.0.weight"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"generator_width": 7, "latent": 9}, "no weight fits the generator"),
        ({"name": "r3gan", "generator_width": 64, "discriminator_width": 64}, "set model.name=dcgan"),
    ],
)
def test_weights_that_fit_nowhere_are_refused_before_there_is_a_run(trained, tmp_path, model, message):
    given = options(trained / "run")
    with pytest.raises(UsageError, match=message) as refused:
        train(str(trained / "data"), str(tmp_path / "run"), {**given, "model": {**given["model"], **model}})
    assert refused.value.exit_code == 2 and not open_store(str(tmp_path / "run")).exists(runs.RUN)


def test_what_is_no_model_is_an_input_that_cannot_be_used(trained, tmp_path):
    with pytest.raises(InputError, match="neither a run nor a version"):
        train(str(trained / "data"), str(tmp_path / "run"), options(trained / "data"))


def test_a_run_that_began_goes_on_whatever_becomes_of_the_weights_it_began_with(trained, tmp_path):
    donor, whole, parts = tmp_path / "donor", tmp_path / "whole", str(tmp_path / "parts")
    shutil.copytree(trained / "run", donor)
    once = train(str(trained / "data"), str(whole), options(donor, images=64, lr=1e-3, lr_final=1e-4))
    train(str(trained / "data"), parts, options(donor, images=64, lr=1e-3, lr_final=1e-4), _Stopping(2))
    shutil.rmtree(donor)
    again = train(str(trained / "data"), parts, options(donor, images=64, lr=1e-3, lr_final=1e-4))
    assert again.complete and again.weights_sha256 == once.weights_sha256


def test_other_weights_are_another_configuration_and_the_same_elsewhere_are_not(trained, tmp_path):
    run, moved = str(tmp_path / "run"), tmp_path / "moved"
    first = train(str(trained / "data"), run, options(trained / "run"))
    shutil.copytree(trained / "run", moved)
    assert train(str(trained / "data"), run, options(moved)).weights_sha256 == first.weights_sha256
    with pytest.raises(UsageError, match=r"begun with another train\.init_weights"):
        train(str(trained / "data"), run, options(trained / "run" / "best"))
    with pytest.raises(UsageError, match=r"begun with another train\.init_weights"):
        train(str(trained / "data"), run, options(""))


def test_a_copy_that_was_damaged_is_told_from_the_weights(trained, tmp_path):
    donor, run = transfer.read(str(trained / "run")), open_store(str(tmp_path))
    digest = transfer.keep(run, donor)
    assert transfer.kept(run, digest).keys() == donor.tensors.keys()
    key = f"init/{digest}.safetensors"
    data = bytearray(run.read(key))
    data[-1] ^= 1
    run.replace(key, bytes(data))
    assert from_bytes(bytes(data), key)
    with pytest.raises(InputError, match="do not match their SHA-256"):
        transfer.kept(run, digest)


def test_frozen_layers_keep_the_weights_that_came(trained, tmp_path):
    given = options(trained / "run", images=64, lr=1e-2, lr_final=1e-2, freeze_discriminator=2)
    train(str(trained / "data"), str(tmp_path / "run"), given)
    before, after = newest(trained / "run"), newest(tmp_path / "run")
    same = {
        name.removeprefix("networks/discriminator/")
        for name, value in before.items()
        if name.startswith("networks/discriminator/") and np.array_equal(value.numpy(), after[name].numpy())
    }
    assert same == {"stages.0.weight", "stages.0.bias", "stages.1.weight", "stages.1.bias"}


def test_layers_are_only_frozen_if_they_came_from_a_run(trained, tmp_path):
    for init_from, message in (("", r"set train\.init_from"), (trained / "run" / "best", "would be frozen")):
        with pytest.raises(UsageError, match=message):
            train(str(trained / "data"), str(tmp_path / "run"), options(init_from, freeze_discriminator=1))


class _Stopping(LocalHost):
    def __init__(self, after):
        super().__init__()
        self.left = after

    def progress(self, images, total, rate):
        self.left -= 1

    def should_stop(self):
        return self.left <= 0
