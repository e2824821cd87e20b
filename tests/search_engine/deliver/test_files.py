import os
import stat
import subprocess
import sys

import attrs
import pytest

from search_engine.deliver import files
from search_engine.deliver.delivery import Delivery
from search_engine.errors import DeliveryError


def delivery(**more: str) -> Delivery:
    contents = {
        "net_cuda/Net.cu": '// f\nextern "C" __global__ void f() {}\n',
        "net_cuda/Net.py": "import os\n\n\ndef Net_cuda(owner):\n    return os, owner\n",
        **more,
    }
    return Delivery(
        qualname="Net",
        fingerprint="",
        files={name: files.signed(name, text) for name, text in contents.items()},
        import_line="from net_cuda.Net import Net_cuda",
        decorator_line="@Net_cuda",
        title="",
        rationale="",
        summary="",
    )


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_written_and_removed(tmp_path):
    offer = delivery()
    files.write(tmp_path, offer)
    assert listing(tmp_path) == ["net_cuda", "net_cuda/Net.cu", "net_cuda/Net.py"]
    for name, text in offer.files.items():
        assert (tmp_path / name).read_bytes().decode() == text
    mode = stat.S_IMODE((tmp_path / "net_cuda/Net.cu").stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    assert mode == 0o666 & ~umask
    cache = tmp_path / "net_cuda/__pycache__"
    cache.mkdir()
    (cache / "Net.cpython-311.pyc").write_bytes(b"")
    files.write(tmp_path, offer)  # again: nothing is in the way
    assert files.remove(tmp_path, offer) == []
    assert listing(tmp_path) == []
    assert files.remove(tmp_path, offer) == []


def test_formatting_is_no_edit(tmp_path):
    offer = delivery()
    files.write(tmp_path, offer)
    path = tmp_path / "net_cuda/Net.py"
    path.write_text(path.read_text().replace("os, owner", "(os,\r\n   owner)"), newline="")
    kernel = tmp_path / "net_cuda/Net.cu"
    kernel.write_text(kernel.read_text().replace("{}", "{\n}\n"))
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", "--isolated", path], check=True)
    assert path.read_text() != offer.files["net_cuda/Net.py"]
    files.write(tmp_path, offer)
    assert path.read_text() == offer.files["net_cuda/Net.py"]
    kernel.write_text(kernel.read_text().replace("{}", "{\n}\n"))
    assert files.remove(tmp_path, offer) == []
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("net_cuda/Net.py", "return os", "return 1"), ("net_cuda/Net.cu", "{}", "{ g(); }")],
)
def test_edited_files_stay(tmp_path, name, old, new):
    offer = delivery()
    files.write(tmp_path, offer)
    path = tmp_path / name
    path.write_text(path.read_text().replace(old, new))
    edited = path.read_text()
    with pytest.raises(DeliveryError, match="was edited since it was delivered: move it away"):
        files.write(tmp_path, offer)
    assert files.remove(tmp_path, offer) == [path]
    assert listing(tmp_path) == ["net_cuda", name]
    assert path.read_text() == edited


def test_a_strange_file_is_never_overwritten(tmp_path):
    (tmp_path / "net_cuda").mkdir()
    (tmp_path / "net_cuda/Net.py").write_bytes(b"\xff mine")
    with pytest.raises(DeliveryError, match="is not kernel-lsp's: move it away"):
        files.write(tmp_path, delivery())
    assert listing(tmp_path) == ["net_cuda", "net_cuda/Net.py"]
    assert (tmp_path / "net_cuda/Net.py").read_bytes() == b"\xff mine"


def test_other_files_in_the_folder_stay(tmp_path):
    one, other = delivery(), delivery(**{"net_cuda/Net.py": "x = 1\n"})
    two = Delivery(**{**{f: getattr(other, f) for f in Delivery.__slots__ if f[0] != "_"},
                      "files": {"net_cuda/B.py": files.signed("B.py", "b = 1\n")}})  # fmt: skip
    files.write(tmp_path, one)
    files.write(tmp_path, two)
    files.remove(tmp_path, one)
    assert listing(tmp_path) == ["net_cuda", "net_cuda/B.py"]


def test_the_shared_init_goes_with_the_last(tmp_path):
    init = {"net_cuda/__init__.py": '"""Kernels."""\n'}
    one = delivery(**init)
    files.write(tmp_path, one)
    (tmp_path / "net_cuda/Other.py").write_text("a = 1\n")
    files.remove(tmp_path, one)
    assert listing(tmp_path) == ["net_cuda", "net_cuda/Other.py", "net_cuda/__init__.py"]
    (tmp_path / "net_cuda/Other.py").unlink()
    files.remove(tmp_path, one)
    assert listing(tmp_path) == []


def with_runtime(name, version, **more):
    """A kernel of the folder that imports a shared runtime."""
    contents = {
        f"net_cuda/{name}.cu": "// f\n",
        f"net_cuda/{name}.py": f"from ._runtime_{version} import decorate\n",
        f"net_cuda/_runtime_{version}.py": f"def decorate():\n    return {version!r}\n",
        **more,
    }
    offer = delivery()
    return attrs.evolve(offer, files={n: files.signed(n, t) for n, t in contents.items()})


def test_the_runtime_goes_with_the_last_kernel_that_imports_it(tmp_path):
    one, two, newer = (with_runtime(*kind) for kind in (("A", "1"), ("B", "1"), ("C", "2")))
    for offer in (one, two, newer):
        files.write(tmp_path, offer)
    gone, _ = files.leaving(tmp_path, one)
    assert sorted(path.name for path in gone) == ["A.cu", "A.py"]
    assert files.remove(tmp_path, one) == []
    assert {"net_cuda/_runtime_1.py", "net_cuda/_runtime_2.py"} <= set(listing(tmp_path))
    files.remove(tmp_path, two)
    assert listing(tmp_path) == [
        "net_cuda", "net_cuda/C.cu", "net_cuda/C.py", "net_cuda/_runtime_2.py",
    ]  # fmt: skip
    files.remove(tmp_path, newer)
    assert listing(tmp_path) == []


def test_an_edited_kernel_keeps_its_runtime(tmp_path):
    offer = with_runtime("A", "1")
    files.write(tmp_path, offer)
    path = tmp_path / "net_cuda/A.py"
    path.write_text(path.read_text() + "X = 1\n")
    assert files.remove(tmp_path, offer) == [path]
    assert listing(tmp_path) == ["net_cuda", "net_cuda/A.py", "net_cuda/_runtime_1.py"]


def test_a_new_version_takes_its_predecessors_leftovers_away(tmp_path):
    second = {"net_cuda/A.2.cu": "// g\n", "net_cuda/A.cubin.txt": "QQ==\n"}
    files.write(tmp_path, with_runtime("A", "1", **second))
    files.write(tmp_path, with_runtime("AB", "1", **{"net_cuda/AB.2.cu": "// g\n"}))
    (tmp_path / "net_cuda/A.3.cu").write_text("// mine\n")
    files.write(tmp_path, with_runtime("A", "2"))
    found = {name.partition("/")[2] for name in listing(tmp_path)} - {""}
    assert found == {
        "A.cu", "A.py", "A.3.cu", "AB.cu", "AB.2.cu", "AB.py", "_runtime_1.py", "_runtime_2.py",
    }  # fmt: skip
    files.write(tmp_path, with_runtime("AB", "2"))
    assert not (tmp_path / "net_cuda/_runtime_1.py").exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "disk of .* is full"),
        (PermissionError(13, "Permission denied"), "cannot be written: check its permissions"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
@pytest.mark.parametrize("at", [1, 2])
def test_nothing_half_written(tmp_path, monkeypatch, error, sentence, at):
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == at:
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DeliveryError, match=sentence):
        files.write(tmp_path, delivery())
    assert listing(tmp_path) == []


def test_a_failed_rewrite_leaves_what_was_there(tmp_path, monkeypatch):
    files.write(tmp_path, delivery())
    before = (tmp_path / "net_cuda/Net.cu").read_text()
    newer = delivery(**{"net_cuda/Net.cu": "// other\n", "net_cuda/Net.py": "y = 2\n"})
    fsync, calls = os.fsync, []

    def second_fails(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(DeliveryError, match="full"):
        files.write(tmp_path, newer)
    assert (tmp_path / "net_cuda/Net.cu").read_text() == before
    assert len(listing(tmp_path)) == 3


@pytest.mark.parametrize("name", ["../Net.py", "/tmp/a/Net.py", "Net.py"])
def test_only_into_the_folder(tmp_path, name):
    with pytest.raises(DeliveryError, match="no path of a delivered file"):
        files.write(tmp_path, delivery(**{name: ""}))


def test_a_users_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("a = 1\n")
    path.chmod(0o640)
    files.write_text(path, "b = 2\r\n")
    assert path.read_bytes() == b"b = 2\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert listing(tmp_path) == ["net.py"]
