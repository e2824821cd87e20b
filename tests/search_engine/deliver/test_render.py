import ast
import subprocess
import sys

import attrs
import pytest
import torch

from search_engine import serial
from search_engine.contract.parse import parse
from search_engine.contract.resolve import resolve
from search_engine.deliver import edit, files
from search_engine.deliver.delivery import Delivery
from search_engine.deliver.join import runtime
from search_engine.deliver.names import names_of
from search_engine.deliver.observed import Called, Observed
from search_engine.deliver.render import VerifiedShape, render, summary
from search_engine.errors import DeliveryError
from search_engine.hardware import H200
from search_engine.verdict import Estimate

OBSERVED = Observed({"": "~.Net", "norm": "torch.LayerNorm"}, {"norm.eps": 1e-5}, (), (), "f" * 16)


SHAPE = ("verdict", "measurement", "estimate", "cubin")
RUNTIME = f"net_cuda/{runtime()[0]}.py"


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x)


@pytest.fixture
def task(tmp_path, kit):
    path = tmp_path / "net.py"
    path.write_text(kit.NET)
    return kit.make_task(path, Module(), kit.Call((torch.randn(4, 8),)))


@pytest.fixture
def rendered(kit):
    def make(task, kernel=kit.KERNEL, **changes):
        arguments = {"observed": OBSERVED, "idea": kit.IDEA, "facts": H200}
        known = {"verdict": kit.VERDICT, "measurement": kit.MEASUREMENT}
        known |= {key: changes.pop(key) for key in list(changes) if key in SHAPE}
        shape = VerifiedShape(task, parse(kernel), Called(), **known)
        return render([shape], **(arguments | changes))

    return make


def test_names_and_lines(task, rendered, kit):
    found = rendered(task)
    assert list(found.files) == ["net_cuda/Net.cu", "net_cuda/Net.py", RUNTIME]
    assert found.import_line == "from net_cuda.Net import Net_cuda"
    assert found.decorator_line == "@Net_cuda"
    assert found.fingerprint == task.fingerprint
    edit.insert(kit.NET, found)
    assert serial.loads(serial.dumps(found), Delivery) == found


@pytest.mark.parametrize(
    ("path", "module_name", "qualname", "line"),
    [
        ("net.py", "pkg.net", "Net", "from .net_cuda.Net import Net_cuda"),
        ("__init__.py", "pkg", "Net", "from .pkg_cuda.Net import Net_cuda"),
        ("my-net.py", "my-net", "Net", "from my_net_cuda.Net import Net_cuda"),
        ("19_ReLU.py", "19_ReLU", "Net", "from m_19_ReLU_cuda.Net import Net_cuda"),
        ("net.py", "net", "A.Net", "from net_cuda.A_Net import A_Net_cuda"),
        ("net.py", "net", "f.<locals>.Net", "from net_cuda.f_Net import f_Net_cuda"),
    ],
)
def test_names(task, path, module_name, qualname, line):
    task = attrs.evolve(task, path=f"/x/{path}", module_name=module_name, qualname=qualname)
    assert names_of(task).import_line == line


def test_inside_a_package_the_folder_is_one_too(task, rendered):
    found = rendered(attrs.evolve(task, module_name="pkg.net"))
    assert "net_cuda/__init__.py" in found.files


def test_a_module_of_the_folders_name_is_not_hidden(task, tmp_path, rendered):
    (tmp_path / "net_cuda.py").write_text("")
    found = rendered(task)
    assert found.import_line == "from net_cuda_kernels.Net import Net_cuda"


def test_the_kernel_file_says_what_is_known(task, rendered, kit):
    text = rendered(task).files["net_cuda/Net.cu"]
    head = text[: text.index("// scratch:")]
    for part in (
        "Net: One block per row", "Reads once.", "on NVIDIA H200, 20", "eager          1 ms",
        "torch.compile  0.2 ms", "kernel         0.1 ms", "limit          50 µs (DRAM)",
        "1.0e-07 against fp64, eager's 2.0e-07, bound 4.0e-07", "x float32[4, 8]",
    ):  # fmt: skip
        assert part in head
    assert all(line.startswith("//") or not line for line in head.splitlines())
    assert not any(line.rstrip().endswith("\\") for line in head.splitlines())
    # What a model wrote in the rationale is no launch line.
    again = resolve(parse(text), task, H200)
    assert again == attrs.evolve(
        resolve(parse(kit.KERNEL), task, H200),
        launches=again.launches,
        scratch=again.scratch,
    )
    assert [launch.function for launch in again.launches] == ["moments", "normalize"]


def test_without_a_gpu_nothing_is_claimed(task, rendered):
    estimate = Estimate("NVIDIA H200", 1.2e-4, "DRAM", {})
    found = rendered(task, measurement=None, estimate=estimate)
    text = found.files["net_cuda/Net.cu"]
    assert "verified, not measured" in text
    assert "0.12 ms on NVIDIA H200 (modelled)" in text
    assert "on cpu (SIMT)" in text
    assert found.summary == "verified, not measured"
    assert not any(word in text for word in ("×", "faster", "eager  ", "torch.compile"))


def test_summary(kit):
    assert summary(kit.MEASUREMENT) == "×2.00 over torch.compile, ×10.00 over eager"
    assert summary(attrs.evolve(kit.MEASUREMENT, compiled={})) == "×10.00 over eager"
    assert summary(attrs.evolve(kit.MEASUREMENT, kernel=kit.sample(1e-4))).startswith("×2.00")


@pytest.mark.parametrize("arguments", [["check", "--extend-select", "I,UP"], ["format", "--check",
                                       "--line-length", "100"]])  # fmt: skip
def test_the_python_file_passes_ruff(task, tmp_path, arguments, rendered):
    files.write(tmp_path, rendered(task, cubin=b"x" * 100))
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--target-version", "py310"]
    done = subprocess.run(
        [*command, str(tmp_path / "net_cuda")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_python_file_stands_on_its_own(task, tmp_path, rendered):
    found = rendered(task).files
    text = found["net_cuda/Net.py"] + found[RUNTIME]
    trees = [ast.parse(found[n], feature_version=(3, 10)) for n in ("net_cuda/Net.py", RUNTIME)]
    imported = {
        name.partition(".")[0]
        for tree in trees
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        )
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"torch", "cuda"}
    assert str(tmp_path) not in text
    assert "search_engine" not in text


def test_an_unchanged_kernel_renders_the_same(task, rendered):
    assert rendered(task).files["net_cuda/Net.py"] == rendered(task).files["net_cuda/Net.py"]


def test_a_cubin_only_where_headers_are_included(task, rendered, kit):
    assert not any("cubin" in name for name in rendered(task, cubin=b"abc").files)
    kernel = kit.KERNEL.replace("extern", "#include <cooperative_groups.h>\nextern", 1)
    found = rendered(task, kernel, cubin=b"abc" * 50)
    assert files.is_unchanged("Net.cubin.txt", found.files["net_cuda/Net.cubin.txt"])
    assert '"Net.cubin.txt", "sm_90a"' in found.files["net_cuda/Net.py"]


def test_a_number_that_a_parameter_cannot_take(task, rendered, kit):
    with pytest.raises(DeliveryError, match=r"moments takes 8.5 as int: it would lose digits"):
        rendered(task, kit.KERNEL.replace("partial, 8)", "partial, 8.5)"))


def test_numbers_take_the_parameters_type(task, rendered, kit):
    kernel = kit.KERNEL.replace("partial, 8)", "partial, 8, 8, 1, 2)").replace(
        "int n)", "long long n, const double d, bool b, T t)"
    )
    text = rendered(task, kernel).files["net_cuda/Net.py"]
    assert '("long", 8),' in text
    assert '("double", 8.0),' in text
    assert '("bool", True),' in text
    assert '("T", 2),' in text
