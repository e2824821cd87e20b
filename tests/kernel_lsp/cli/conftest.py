"""A store with one finished run, and a search process that needs no torch."""

import sys
import textwrap
from pathlib import Path

import pytest

from search_engine.deliver.delivery import Delivery
from search_engine.deliver.files import signed
from search_engine.proposers._base import Branch, Idea
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.store import Store
from search_engine.task import CaptureRequest
from search_engine.verdict import Finding, Measurement, Sample, Verdict

NET = textwrap.dedent(
    '''\
    """A file of the user's."""

    import torch
    from torch import nn


    class Net(nn.Module):
        def forward(self, x):
            return torch.relu(x)
    '''
)


def delivery_for(text: str) -> Delivery:
    digest = fingerprint(text, "Net")
    assert digest is not None
    return Delivery(
        qualname="Net",
        fingerprint=digest,
        files={
            name: signed(name, text)
            for name, text in {
                "net_cuda/Net.cu": "// kernel\n",
                "net_cuda/Net.py": "def Net_cuda(c):\n    return c\n",
            }.items()
        },
        import_line="from net_cuda.Net import Net_cuda",
        decorator_line="@Net_cuda",
        title="One pass",
        rationale="Reads x once.",
        summary="×1.31 over torch.compile, ×31.6 over eager",
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("KERNEL_LSP_DATA", str(folder))
    return folder


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "net.py"
    path.parent.mkdir()
    path.write_text(NET)
    return path


@pytest.fixture
def finished(data: Path, net: Path) -> str:
    """The id of a finished run with one accepted and one rejected kernel, and an offer."""
    with Store() as store:
        text = net.read_text()
        digest = fingerprint(text, "Net")
        assert digest is not None
        request = CaptureRequest(str(net), text, "Net")
        run_id, _ = store.start_run(request, "Net", digest, SearchSettings())
        store.claim(run_id, "test")
        store.add_ideas(
            run_id, 1, "playbook", [Idea("One pass", "Reads x once.", "memory access", 2.0)]
        )
        idea = store.run(run_id).ideas[0]
        store.add_branches(run_id, idea.id, [Branch("// one\n", "one"), Branch("// two\n", "two")])
        good, bad = store.run(run_id).kernels
        store.set_verdict(good.id, Verdict(True, "NVIDIA H200"), [])
        store.set_verdict(
            bad.id, Verdict(False, "NVIDIA H200", (Finding("race", "two writers", 3),)), []
        )
        store.set_measurement(
            good.id,
            Measurement(
                "NVIDIA H200",
                kernel=Sample(1.0e-4, 0.99e-4, 1.01e-4, 50),
                eager=Sample(31.6e-4, 31e-4, 32e-4, 50),
                compiled={"default": Sample(1.31e-4, 1.3e-4, 1.32e-4, 50)},
            ),
        )
        store.offer(run_id, good.id, delivery_for(text))
        store.finish(run_id, "finished", "A faster kernel is verified.")
    return run_id


@pytest.fixture
def engine_stub(tmp_path: Path):
    """Makes an interpreter that runs the given Python body as the search engine.

    The body sees ``arguments`` (what follows ``-m search_engine``).
    """

    def make(body: str) -> str:
        script = tmp_path / "stub.py"
        script.write_text("import sys\narguments = sys.argv[3:]\n" + textwrap.dedent(body))
        path = tmp_path / "python-stub"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make
