"""The folder of built kernels stays below its limit; what was used last stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from search_engine.contract.parse import parse
from search_engine.devices._base import Program
from search_engine.devices.cpu.cache import BuildCache
from search_engine.devices.cpu.device import CpuDevice
from search_engine.hardware import H200

BLOCK = 4096


def _module(cache: BuildCache, key: str, blocks: int = 1) -> None:
    built = cache.folder / f"build-{key}" / key
    built.mkdir(parents=True)
    (built / "plain.so").write_bytes(b"p" * BLOCK * blocks)
    (built / "hooked.so").write_bytes(b"h" * BLOCK * blocks)
    cache.modules.mkdir(exist_ok=True)
    cache.add(built, key)


def _keys(cache: BuildCache) -> set[str]:
    return {entry.name for entry in cache.modules.iterdir()}


def _used(cache: BuildCache, key: str, seconds_ago: float) -> None:
    when = time.time() - seconds_ago
    os.utime(cache.modules / key, (when, when))


def test_the_least_recently_used_go(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, limit=10 * BLOCK)
    for age, key in enumerate(["a", "b", "c", "d"]):
        _module(cache, key)
        _used(cache, key, 100 - age)
    assert cache.find("a") is not None  # now it is the youngest
    _module(cache, "e")
    assert _keys(cache) == {"a", "b", "c", "d", "e"}  # ten blocks: it just fits
    _module(cache, "f")
    assert _keys(cache) == {"a", "d", "e", "f"}  # eight are left
    assert cache.find("b") is None


def test_a_module_larger_than_the_limit_is_kept_until_the_next(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, limit=2 * BLOCK)
    _module(cache, "large", blocks=4)
    assert _keys(cache) == {"large"}
    _used(cache, "large", 10)
    _module(cache, "next")
    assert _keys(cache) == {"next"}


def test_the_size_of_what_others_built_counts(tmp_path: Path) -> None:
    _module(BuildCache(tmp_path, limit=100 * BLOCK), "theirs", blocks=4)
    ours = BuildCache(tmp_path, limit=8 * BLOCK)
    _used(ours, "theirs", 10)
    _module(ours, "ours")
    assert _keys(ours) == {"ours"}


def test_folders_of_killed_builds_go(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, limit=1)
    for name, age in (("build-old", 7200.0), ("build-new", 10.0)):
        (tmp_path / name).mkdir()
        when = time.time() - age
        os.utime(tmp_path / name, (when, when))
    cache.prune()
    assert [entry.name for entry in tmp_path.iterdir()] == ["build-new"]


def test_what_was_pruned_is_built_again(tmp_path: Path, make_task, cpu: CpuDevice) -> None:
    """Also a module that this process had loaded before."""
    device = CpuDevice(H200, cache=tmp_path, cache_bytes=1, compile_for_target=False)
    x = torch.ones(32)
    task = make_task({"x": x}, {"out": x})
    source = (
        "// launch: f<<<1, 32>>>(x, out)\n"
        'extern "C" __global__ void f(const float* x, float* out) '
        "{{ out[threadIdx.x] = x[threadIdx.x] + {}; }}"
    )
    programs = {}
    for number in (1, 2, 1):
        if number not in programs:
            [programs[number]] = device.compile([parse(source.format(number))], task)
        program = programs[number]
        assert isinstance(program, Program)
        assert len(list((tmp_path / "modules").iterdir())) == 1
        ran = device.execute(program, task, {"x": x}, checked=True)
        assert ran.outputs["out"][0] == 1 + number
    device.close()
