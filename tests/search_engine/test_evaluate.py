"""The evaluator with the real parts, on the cpu device."""

import pytest

from search_engine.contract.errors import ContractError
from search_engine.deliver import edit
from search_engine.deliver.join import runtime
from search_engine.errors import CaptureError
from search_engine.evaluate import Evaluator
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest
from search_engine.verdict import Verdict

TEXT = """\
import torch


# kernel-lsp: Shift(0.5), x=float32[8, 64]
class Shift(torch.nn.Module):
    def __init__(self, by):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.full((64,), by))

    def forward(self, x):
        return x * 2 + self.bias
"""
RIGHT = """\
// tune: BLOCK = 64 | 32
// launch: shift<<<ceil_div(x.numel(), BLOCK), BLOCK>>>(x, bias, out, x.numel())
extern "C" __global__ void shift(const float* x, const float* bias, float* out, int n) {
  int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i < n) out[i] = x[i] * 2.0f + bias[i % 64];
}
"""
WRONG = RIGHT.replace("2.0f", "2.001f")
IDEA = Idea("One pass", "Reads once.", "memory access", 1.5)


def evaluator(path, text=TEXT, **settings):
    path.write_text(text)
    return Evaluator(
        CaptureRequest(path=str(path), text=text, **settings), SearchSettings(device="cpu")
    )


@pytest.fixture(scope="module")
def shift(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL_LSP_DATA", str(tmp_path_factory.mktemp("data")))
        made = evaluator(tmp_path_factory.mktemp("project") / "shifting.py")
        made.prepare([RIGHT, WRONG])
        yield made
        made.close()


def test_the_task_and_what_runs_it(shift):
    assert [t.name for t in shift.capture().tensors] == ["x", "bias", "out"]
    device = shift.device()
    assert (device.name, device.measures) == ("cpu (SIMT)", False)
    assert device.facts.sm_count == 132  # of the GPU that it stands in for


def test_right_and_wrong(shift):
    judgement = shift.verify(RIGHT)
    assert judgement.verdict.accepted, judgement.verdict.findings
    assert [b.function for b in judgement.builds] == ["shift"]
    rejected = shift.verify(WRONG).verdict
    assert not rejected.accepted
    assert rejected.findings[0].check == "accuracy"


@pytest.mark.parametrize(
    ("source", "check", "line"),
    [
        ("no launch line", "launch-missing", 1),
        (RIGHT.replace("(x, bias", "(y, bias"), "unknown-name", 2),
        ("#include <cstdio>\n" + RIGHT, "include", 1),
        (RIGHT.replace("int i =", "int i = j +"), "compile", 4),
    ],
)
def test_what_does_not_get_as_far_as_running_is_a_verdict_too(shift, source, check, line):
    verdict = shift.verify(source).verdict
    assert not verdict.accepted
    assert (verdict.findings[0].check, verdict.findings[0].line) == (check, line)
    with pytest.raises(ContractError):
        shift.estimate(source)


def test_a_delivery_is_what_was_verified(shift):
    verdict = shift.verify(RIGHT).verdict
    delivery = shift.render(RIGHT, IDEA, verdict, None, None)
    files = ["shifting_cuda/Shift.cu", "shifting_cuda/Shift.py", f"shifting_cuda/{runtime()[0]}.py"]
    assert sorted(delivery.files) == files
    assert "#define BLOCK 64  // tune: BLOCK = 64" in delivery.files["shifting_cuda/Shift.cu"]
    checked = shift.check_delivery(delivery)
    assert checked.verdict.accepted, checked.verdict.findings
    assert checked.times is None  # no GPU, no times


def test_a_delivery_of_something_else_is_found(shift):
    delivery = shift.render(WRONG, IDEA, Verdict(True, "cpu (SIMT)"), None, None)
    checked = shift.check_delivery(delivery)
    assert not checked.verdict.accepted
    assert checked.verdict.findings[0].check == "accuracy"


def test_a_delivered_kernel_is_not_its_own_reference(shift, tmp_path):
    delivery = shift.render(RIGHT, IDEA, shift.verify(RIGHT).verdict, None, None)
    for name, text in delivery.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    edited = edit.apply(TEXT, edit.insert(TEXT, delivery))
    assert "@Shift_cuda" in edited
    again = evaluator(tmp_path / "shifting.py", edited)
    again.capture()
    module = again._captured.module
    assert type(module).__name__ == "Shift"
    assert not hasattr(type(module).forward, "__kernel_lsp__")


def test_the_mode_matters_where_the_graphs_differ(tmp_path):
    plain = evaluator(tmp_path / "plain.py")
    assert not plain._mode_matters(plain.capture())
    dropped = TEXT.replace("return x * 2 ", "return torch.dropout(x, 0.5, self.training) ")
    dropping = evaluator(tmp_path / "dropping.py", dropped)
    assert dropping._mode_matters(dropping.capture())


def test_an_import_that_hangs(tmp_path):
    hanging = evaluator(
        tmp_path / "hanging.py", "import time\ntime.sleep(60)\n" + TEXT, import_timeout=0.3
    )
    with pytest.raises(CaptureError, match=r"^Importing hanging\.py takes more than 0\.3 s: make"):
        hanging.capture()
