"""Which device a search gets."""

from __future__ import annotations

import pytest
import torch

from search_engine.devices import select
from search_engine.errors import SetupError
from search_engine.settings import SearchSettings

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_an_unknown_device_is_refused_with_the_choices():
    with pytest.raises(SetupError, match="auto, cpu, cuda or cuda:N"):
        select.open_device(SearchSettings(device="tpu"))


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_says_what_to_do(device):
    with pytest.raises(SetupError, match="set the device to cpu"):
        select.open_device(SearchSettings(device=device))


@without_gpu
def test_auto_without_a_gpu_is_the_cpu_device():
    device = select.open_device(SearchSettings(device="auto"))
    try:
        assert (device.torch_device, device.measures) == ("cpu", False)
        assert device.facts.key == "h200"
    finally:
        device.close()


def test_an_unknown_target_is_refused():
    with pytest.raises(SetupError, match="h200"):
        select.open_device(SearchSettings(device="cpu", target="voodoo2"))


def test_usage_is_read_from_nvidia_smi_and_garbage_left_out():
    told = "GPU-8a5e-11, 97, 80000\nGPU-77aa-22, 0, 512\nGPU-dead, [N/A], 5\n\n"
    assert select.parse_usage(told) == {"8a5e-11": (97, 80000), "77aa-22": (0, 512)}


def test_the_idlest_gpu_wins_and_ties_go_to_free_memory(monkeypatch):
    uuids = ["a", "b", "c"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: type("P", (), {"uuid": uuids[i]})
    )
    monkeypatch.setattr(select, "_usage", lambda: {"a": (0, 900), "b": (0, 20), "c": (50, 0)})
    assert select.idlest_gpu() == 1
    monkeypatch.setattr(select, "_usage", dict)
    assert select.idlest_gpu() == 0
