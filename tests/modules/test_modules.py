"""Every module of this folder through a whole search: it ends as ``expected`` says."""

import os
import runpy
from pathlib import Path

import pytest

from search_engine.search import process
from search_engine.settings import SearchSettings
from search_engine.store.records import Run
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

HERE = Path(__file__).parent
FILES = {path.stem: path for path in sorted(HERE.glob("level*.py"))}
EXPECTED: dict[str, str | None] = runpy.run_path(str(HERE / "expected.py"))["EXPECTED"]

# One kernel: compiled, verified, estimated, delivered to a scratch folder, verified there.
CHEAPEST = SearchSettings(device="cpu", rounds=1, ideas=1, branches=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One data folder for all test processes, so that the cpu device's runner is built once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "modules").mkdir(exist_ok=True)
    return folder / "modules"


def search(path: Path, store: Path) -> Run:
    """The run of a file's module, from start to end."""
    request = CaptureRequest(path=str(path), text=path.read_text(encoding="utf-8"))
    with Store(store) as opened:
        run_id, _ = opened.start_run(request, "Model", path.stem, CHEAPEST)
    assert process.main(run_id, store) == 0
    with Store(store) as opened:
        return opened.run(run_id)


def test_every_module_has_a_prediction():
    assert len(FILES) >= 40
    assert set(EXPECTED) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_module_ends_as_predicted(name, tmp_path, data, monkeypatch):
    monkeypatch.setenv("KERNEL_LSP_DATA", str(data))
    monkeypatch.delenv("MODULE_SIZES", raising=False)
    run = search(FILES[name], tmp_path / "store.db")
    reason = EXPECTED[name]
    found = [(f.check, f.message) for k in run.kernels if k.verdict for f in k.verdict.findings]
    if reason is None:
        assert run.delivery is not None, (run.message, found)
        assert all(kernel.verdict.accepted for kernel in run.kernels), found
    else:
        assert run.delivery is None
        assert reason in run.message
