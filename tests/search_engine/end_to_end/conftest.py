"""A file on its way to a delivered module that runs its kernel, on the cpu device, and back.

Each module goes the whole way: capture, the playbook's first kernel, its verdict, the
delivered files, the edit, the import as the user would, a call that the guard lets through
to the kernel (which the cpu device runs), Revert.
"""

import importlib
import linecache
import sys
import warnings

import pytest
import torch

from search_engine.capture.loader import _forget_buffers
from search_engine.capture.outputs import taken_apart
from search_engine.contract.parse import parse
from search_engine.contract.tune import filled
from search_engine.deliver import edit, files
from search_engine.deliver.check import _class
from search_engine.devices._base import Program
from search_engine.devices.cpu.device import CpuDevice
from search_engine.evaluate import Evaluator
from search_engine.hardware import H200
from search_engine.judgement import ShapeKernel
from search_engine.proposers._base import History
from search_engine.proposers.playbook import Playbook
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest, Task, TensorSpec

HEADER = """\
import collections
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple, Optional

import torch
from torch import nn

"""


class CpuGpu:
    """Stands for CUDA in a delivered file: the cpu device runs its kernel files."""

    device_type = "cpu"

    def __init__(self, device):
        self.device = device
        self.runs = []  # the kernel file of each launch
        self._clock = 0.0

    def name(self, index):
        return "NVIDIA H200"

    def capturing(self):
        return False

    def seconds(self, function):
        function()
        self._clock += 1.0  # the kernel is timed first, so it is the faster
        return self._clock

    def load(self, index, folder, file, case):
        task = _task(case)
        (program,) = self.device.compile([parse((folder / file.name).read_text())], task)
        assert isinstance(program, Program), program
        read = [*case.inputs, *case.weights]

        def run(tensors):
            self.runs.append(file.name)
            given = dict(zip([*read, *case.outputs], tensors, strict=False))
            inputs = {name: given[name].detach() for name in read}
            execution = self.device.execute(program, task, inputs, checked=False)
            assert not execution.findings
            for name in case.outputs:
                given[name].copy_(execution.outputs[name])

        return run


def _task(case):
    roles = {"input": case.inputs, "parameter": case.weights, "output": case.outputs}
    return Task(
        path="", qualname="", module_name="", fingerprint="", inputs_from="comment",
        construction="", mode="eval", policy="match", target="h200", flops=1, min_bytes=1,
        longest_reduction=1, limit_seconds=1.0, limit_reason="", graph=None,
        scalars={k: v for k, v in case.arguments.items() if isinstance(v, (int, float))},
        tensors=tuple(
            TensorSpec(name, role, str(dtype).removeprefix("torch."), shape, stride)
            for role, tensors in roles.items()
            for name, (dtype, shape, stride) in tensors.items()
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def device():
    device = CpuDevice(H200)
    yield device
    device.close()


class Delivered:
    """A delivered module beside the original, and how to take it out again."""

    def __init__(self, evaluator, path, text, delivery, device):
        self.evaluator = evaluator
        self.path = path
        self.text = text
        self.delivery = delivery
        files.write(path.parent, delivery)
        self.edited = edit.apply(text, edit.insert(text, delivery))
        path.write_text(self.edited)
        _forget_buffers()
        linecache.clearcache()
        importlib.invalidate_caches()
        task = evaluator.capture()
        sys.modules.pop(task.module_name, None)
        self.user = importlib.import_module(task.module_name)
        words = delivery.import_line.split()
        self.file = importlib.import_module(words[1], self.user.__package__)
        self.gpu = CpuGpu(device)
        sys.modules[self.file.decorate.__module__].gpu = self.gpu

    def module(self, captured):
        module = captured.copied_module()
        for part in module.modules():
            if type(part).__module__ == self.user.__name__:
                part.__class__ = _class(self.user, type(part))
        return module

    def check(self):
        """Every verified shape runs by its kernel and returns what the original returns."""
        first = self.evaluator._captured
        for captured in (first, *first.further):
            module, call = self.module(captured), captured.draw(3)
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module(*call.args, **call.kwargs)  # its first use on a GPU: checked and timed
                launches = len(self.gpu.runs)
                got = module(*call.args, **call.kwargs)
                wanted = module.forward.__wrapped__(module, *call.args, **call.kwargs)
                assert self.file.explain(module, *call.args, **call.kwargs) == "kernel"
            assert len(self.gpu.runs) == launches + 1
            assert type(got) is type(wanted)
            (tensors, tree), (expected, wanted_tree) = taken_apart(got), taken_apart(wanted)
            assert tree == wanted_tree
            for name, tensor in tensors.items():
                torch.testing.assert_close(tensor, expected[name], rtol=1e-2, atol=1e-2)

    def revert(self):
        assert edit.apply(self.edited, edit.remove(self.edited, self.delivery)) == self.text
        assert files.remove(self.path.parent, self.delivery) == []
        assert not list(self.path.parent.glob("*_cuda"))


@pytest.fixture
def deliver(tmp_path, device, monkeypatch):
    """Goes all the way with a text; further files of a project by their paths."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    opened = []

    def go(text, qualname="Net", path="net_of_user.py", others=None, header=HEADER):
        for name, content in (others or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        where, text = tmp_path / path, header + text
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        request = CaptureRequest(str(where), text, qualname)
        evaluator = Evaluator(request, SearchSettings(device="cpu"))
        evaluator._opened = device
        opened.append(evaluator)
        idea, kernels = first_kernels(evaluator)
        source, verdict = kernels[0].source, kernels[0].verdict
        delivery = evaluator.render(source, idea, verdict, None, None, kernels[1:])
        for number in range(len(kernels)):
            checked = evaluator.check_delivery(delivery, number).verdict
            assert checked.accepted, checked.findings
        return Delivered(evaluator, where, text, delivery, device)

    yield go
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


def first_kernels(evaluator):
    """The playbook's first idea, with a verified kernel of it for each shape."""
    task = evaluator.capture()
    playbook = Playbook(H200)
    history = History(1, (), (), None, task.limit_seconds)
    assert playbook.unsupported(task) is None
    (idea,) = playbook.ideas(task, history, 1)
    kernels = []
    for number, at in enumerate((task, *task.further)):
        (branch,) = playbook.branches(at, idea, history, 1)
        source = filled(branch.source)
        verdict = evaluator.verify(source, number).verdict
        assert verdict.accepted, verdict.findings
        kernels.append(ShapeKernel(number, source, verdict))
    return idea, kernels
