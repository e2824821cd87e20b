"""The third source of inputs: what a run was seen to call a class on."""

import pytest
import torch

from search_engine.capture.capture import capture
from search_engine.errors import CaptureError
from search_engine.hardware import H200
from search_engine.record.inside.describe import state_digest
from search_engine.recording import RecordedCall
from search_engine.task import CaptureRequest

TEXT = """\
import dataclasses, torch


@dataclasses.dataclass
class Config:
    width: int
    scale: float = 1.0


class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.l = torch.nn.Linear(config.width, config.width)

    def forward(self, x, idx=None):
        y = self.l(x) * self.config.scale
        return y if idx is None else y[idx]
"""


class Same(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(8, 8)


STATE = state_digest(Same())


def recorded(inputs, calls=10, call="Net(Config(width=8, scale=0.5))", **known):
    return RecordedCall(f"{call}, {inputs}", calls, state=STATE, **known)


def captured(tmp_path, *calls, text=TEXT):
    request = CaptureRequest(str(tmp_path / "net.py"), text, "Net", recorded=calls)
    return capture(request, H200)


def test_a_recorded_call_is_captured_as_it_was(tmp_path):
    found = captured(tmp_path, recorded("x=float32[4, 8], idx=int64[3] in 0..3"))
    task = found.task
    assert task.inputs_from == "recorded"
    assert task.construction == "Net(Config(width=8, scale=0.5))"
    assert [(t.name, t.dtype, t.shape) for t in task.inputs] == [
        ("x", "float32", (4, 8)), ("idx", "int64", (3,)),
    ]  # fmt: skip
    assert found.module.config.scale == 0.5


def test_strides_are_those_that_were_seen(tmp_path):
    call = recorded("x=float32[4, 8]", strides={"x": (1, 4)})
    found = captured(tmp_path, call)
    assert found.task.tensor("x").stride == (1, 4)
    assert found.draw(0).args[0].stride() == (1, 4)


def test_several_shapes_are_verified_the_most_frequent_first(tmp_path):
    calls = [
        recorded("x=float32[32, 8]", 900),
        recorded("x=float32[7, 8]", 90),
        recorded("x=float32[1, 8]", 5),  # under a hundredth
    ]
    task = captured(tmp_path, *calls).task
    assert [t.inputs[0].shape for t in (task, *task.further)] == [(32, 8), (7, 8)]


def test_the_file_itself_counts_more(tmp_path):
    text = TEXT.replace("class Net", "# kernel-lsp: Net(Config(8)), x=float32[2, 8]\nclass Net")
    task = captured(tmp_path, recorded("x=float32[4, 8]"), text=text).task
    assert (task.inputs_from, task.inputs[0].shape) == ("comment", (2, 8))


def test_a_module_that_was_changed_after_it_was_made_is_named(tmp_path):
    call = RecordedCall("Net(Config(width=8)), x=float32[4, 8]", 1, state="of another")
    with pytest.raises(CaptureError, match="changed after it was made"):
        captured(tmp_path, call)


def test_what_the_file_no_longer_has_says_to_record_again(tmp_path):
    text = TEXT.replace("class Config", "class Options")
    with pytest.raises(CaptureError, match=r"What was recorded of Net.*kernel-lsp record.* again"):
        captured(tmp_path, recorded("x=float32[4, 8]"), text=text)


def test_without_any_source_recording_is_one_of_the_ways(tmp_path):
    with pytest.raises(CaptureError, match="kernel-lsp record"):
        captured(tmp_path)


def test_half_precision(tmp_path):
    call = RecordedCall("Net(Config(width=8)).half(), x=float16[4, 8]", 1, state=STATE)
    found = captured(tmp_path, call)
    assert found.task.tensor("l.weight").dtype == "float16"
    assert found.module.l.weight.dtype is torch.float16
