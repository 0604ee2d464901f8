"""Float32 is multiplied in TF32 on a GPU unless exact arithmetic is asked for."""

import pytest
import torch

from medgan_ray.engine import processor


@pytest.mark.parametrize(("exact", "precision"), [(False, "tf32"), (True, "ieee")])
def test_a_gpu_multiplies_as_precisely_as_asked(monkeypatch, exact, precision):
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        processor.prepare(exact)
        assert [place.fp32_precision for place in places] == [precision] * 2
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_tf32_rounds_and_exact_does_not():
    a = torch.randn(512, 512, device="cuda")
    exactly = a.double() @ a.double()
    processor.prepare(exact=True)
    assert (a @ a - exactly).abs().max() < 1e-3
    processor.prepare()
    assert (a @ a - exactly).abs().max() > 1e-3
