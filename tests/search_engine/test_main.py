"""``python -m search_engine`` as the server and the command line call it."""

import json
import os
import subprocess
import sys

import pytest

from search_engine.deliver.join import runtime
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

TEXT = """\
import torch


# kernel-lsp: Net(), x=float32[16, 64]
class Net(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 0.5
"""
KERNEL = """\
// launch: half<<<x.size(0), x.size(1)>>>(x, out)
extern "C" __global__ void half(const float* x, float* out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = x[i] > 0.0f ? x[i] * 0.5f : FALLBACK;
}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One for all tests, so that the cpu device's runner is built once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(TEXT)
    return folder


def engine(project, *arguments):
    environment = os.environ | {"KERNEL_LSP_DATA": str(project / "data")}
    return subprocess.run(
        [sys.executable, "-m", "search_engine", *arguments],
        capture_output=True, text=True, env=environment, cwd=project, check=False,
    )  # fmt: skip


def verify(project, kernel, *arguments):
    (project / "kernel.cu").write_text(kernel)
    done = engine(
        project, "verify", "--file", "net.py", "--kernel", "kernel.cu", "--device", "cpu",
        *arguments,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_verify_prints_one_json_document(project):
    code, answer = verify(project, KERNEL.replace("FALLBACK", "x[i] - x[i]"))
    assert (code, answer["class"], answer["verdict"]["accepted"]) == (1, "Net", False)
    # Right for numbers; infinities and NaN show it.
    assert answer["verdict"]["findings"]


def test_verify_accepts(project):
    code, answer = verify(project, KERNEL.replace("FALLBACK", "(x[i] < 0.0f ? 0.0f : x[i])"))
    assert (code, answer["verdict"]["accepted"]) == (0, True), answer
    assert answer["limit_seconds"] > 0


def test_verify_says_what_it_cannot_do(project):
    code, answer = verify(project, KERNEL, "--class", "Nit")
    assert code == 2
    assert "Nit" in answer["error"]
    done = engine(project, "verify", "--file", "no.py", "--kernel", "kernel.cu")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"error": "no.py cannot be read (No such file or directory)."}


def test_doctor(project):
    done = engine(project, "doctor")
    report = json.loads(done.stdout)
    assert set(report) == {"checks", "usable", "summary"}
    assert done.returncode == (0 if report["usable"] else 2)
    assert {"name", "ok", "found", "advice"} == set(report["checks"][0])


def test_search_for_real(project):
    path = project / "data" / "kernel-lsp.db"
    request = CaptureRequest(path=str(project / "net.py"), text=TEXT, qualname="Net")
    settings = SearchSettings(rounds=1, ideas=1, branches=1, device="cpu")
    with Store(path) as store:
        run_id, _ = store.start_run(request, "Net", fingerprint(TEXT, "Net"), settings)
        done = engine(project, "search", run_id, "--store", str(path))
        assert (done.returncode, done.stdout) == (0, "")
        run = store.run(run_id)
    assert run.status == "finished", run.message
    assert run.message.startswith("Verified, not measured")
    assert [k.verdict.accepted for k in run.kernels] == [True]
    assert run.decision == "pending"
    files = ["net_cuda/Net.cu", "net_cuda/Net.py", f"net_cuda/{runtime()[0]}.py"]
    assert sorted(run.delivery.files) == files
    assert not (project / "net_cuda").exists()


def test_a_search_that_is_not_there(project):
    done = engine(project, "search", "nothing")
    assert done.returncode == 2
    assert done.stderr.strip() == "There is no run 'nothing': `kernel-lsp runs` lists them."
