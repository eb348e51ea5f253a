"""The device that a job chooses, on machines with and without a usable GPU."""

from __future__ import annotations

import pytest

from tests.support.pretend_gpus import pretend_gpus
from videodpo.config import InputError
from videodpo.runtime import device


@pytest.fixture(autouse=True)
def without_cuda(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    device.choose_device.cache_clear()
    yield
    device.choose_device.cache_clear()


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert device.choose_device("auto") == "cpu"
    with pytest.raises(InputError, match="no CUDA GPU"):
        device.choose_device("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_that_torch_cannot_use_is_refused(name, tmp_path, monkeypatch):
    def fail():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040). Please update")

    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(device, "_DRIVER", driver)
    monkeypatch.setattr("torch.cuda.init", fail)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for key, value in pretend_gpus(tmp_path, 1).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=r"too old \(found version 12040\)\); update the NVIDIA driver"):
        device.choose_device(name)
    assert device.choose_device("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a job without a GPU on a node that has some
    if name == "auto":
        assert device.choose_device(name) == "cpu"
