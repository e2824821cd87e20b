"""From kernel text to a build whose launches are possible: everything before the GPU."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings.nvrtc")

from search_engine.contract.kernel import Number, Pointer, ResolvedLaunch
from search_engine.contract.parse import parse
from search_engine.devices._base import Rejected
from search_engine.devices.cuda.build import Built, build
from search_engine.devices.cuda.compiler import Compiled
from search_engine.devices.cuda.signature import parameters_of
from search_engine.hardware import H200
from search_engine.task import Task, TensorSpec


def make_task() -> Task:
    tensors = (
        TensorSpec("x", "input", "float32", (64, 32), (32, 1)),
        TensorSpec("out", "output", "float32", (64, 32), (32, 1)),
    )
    return Task(
        path="net.py", qualname="Net", module_name="net", fingerprint="f",
        inputs_from="get_inputs", construction="Net()", tensors=tensors, scalars={"scale": 2.5},
        mode="eval", policy="match", target="h200", flops=0, min_bytes=16384,
        longest_reduction=1, limit_seconds=1e-9, limit_reason="DRAM", graph=None,
    )  # fmt: skip


def build_one(compiler, source):
    (result,) = build([parse(source)], make_task(), H200, compiler)
    return result


def kernel(launch: str, code: str) -> str:
    return f"// launch: {launch}\n{code}\n"


COPY = 'extern "C" __global__ void f(const float* x, float* out, {0}) {{ out[0] = x[0] * a; }}'


@pytest.mark.parametrize(
    ("number", "kind", "packed"),
    [
        ("3", "int a", struct.pack("<i", 3)),
        ("x.numel()", "long long a", struct.pack("<q", 2048)),
        ("3", "float a", struct.pack("<f", 3.0)),
        ("scale", "const float a", struct.pack("<f", 2.5)),
        ("1e-5", "double a", struct.pack("<d", 1e-5)),
        ("7", "unsigned char a", b"\x07"),
        ("4294967295", "unsigned a", b"\xff\xff\xff\xff"),
    ],
)
def test_scalars_are_packed_as_the_signature_says(compiler, number, kind, packed):
    built = build_one(compiler, kernel(f"f<<<1, 1>>>(x, out, {number})", COPY.format(kind)))
    assert isinstance(built, Built), built
    sizes = built.compiled.functions["f"].parameters
    assert sizes == (8, 8, len(packed))
    launch = ResolvedLaunch(
        "f", (1, 1, 1), (1, 1, 1), 0,
        (Pointer("x"), Pointer("out"), Number(eval(number, {"scale": 2.5}) if "x" not in number
         else 2048)), False, None, 1,
    )  # fmt: skip
    parameters, findings = parameters_of(launch, sizes, built.types["f"])
    assert not findings
    assert parameters[0].pack(0x1234) == struct.pack("<Q", 0x1234)
    assert parameters[2].pack(0) == packed


@pytest.mark.parametrize(
    ("launch", "code", "check", "words"),
    [
        ("f<<<1, 1>>>(x, out, 2.5)", COPY.format("int a"), "signature", "no integer"),
        ("f<<<1, 1>>>(x, out, 300)", COPY.format("unsigned char a"), "signature", "does not fit"),
        (
            "f<<<1, 1>>>(x, out, 2)",
            "using real = float;\n" + COPY.format("real a"),
            "signature",
            "`real` is not known",
        ),
        (
            "f<<<1, 1>>>(x, out, 2)",
            "#define int long long\n" + COPY.format("int a"),
            "signature",
            "compiled kernel takes 8",
        ),
        (
            "f<<<1, 1>>>(x, out, 2)",
            "struct box { float v[3]; };\n" + COPY.format("box b, float a = 1"),
            "arguments",
            "takes 4",
        ),
        (
            "f<<<1, 1>>>(x, out)",
            "#define f g\n"
            'extern "C" __global__ void f(const float* x, float* out) { out[0] = x[0]; }',
            "kernel-name",
            "not in the compiled kernel",
        ),
        (
            "f<<<1, 32, 4096>>>(x, out)",
            'extern "C" __global__ void f(const float* x, float* out) { __shared__ float s[12000];'
            " s[threadIdx.x] = x[0]; __syncthreads(); out[0] = s[31 - threadIdx.x]; }",
            None,
            "",
        ),
        (
            "f<<<1, 32, 200000>>>(x, out)",
            'extern "C" __global__ void f(const float* x, float* out) { __shared__ float s[12000];'
            " s[threadIdx.x] = x[0]; __syncthreads(); out[0] = s[31 - threadIdx.x]; }",
            "launch-limits",
            "48000 bytes of static",
        ),
    ],
    ids=["float for int", "too large", "alias", "macro", "count", "renamed", "fits", "shared"],
)
def test_only_what_can_be_launched_is_built(compiler, launch, code, check, words):
    result = build_one(compiler, kernel(launch, code))
    if check is None:
        assert isinstance(result, Built)
        assert result.builds()[0].shared_bytes == 48000
        return
    assert isinstance(result, Rejected)
    assert result.findings[0].check == check, result.findings
    assert words in result.findings[0].message


def test_state_that_outlives_a_launch_is_found_where_the_text_hides_it(compiler):
    result = build_one(
        compiler,
        kernel(
            "f<<<1, 1>>>(x, out)",
            'extern "C" __global__ void f(const float* x, float* out) {'
            ' asm volatile(".global .u32 hidden; st.global.u32 [hidden], 3;"); out[0] = x[0]; }',
        ),
    )
    assert isinstance(result, Rejected)
    assert [finding.check for finding in result.findings] == ["device-state"]


def test_good_and_bad_come_back_in_order_with_lines_of_the_file(compiler):
    good = kernel("f<<<1, 1>>>(x, out, 2)", COPY.format("int a"))
    sources = [good, "// a comment\n" + good.replace("x[0] * a", "x[0] * b"), good + "// again"]
    first, second, third = build([parse(s) for s in sources], make_task(), H200, compiler)
    assert isinstance(first, Built)
    assert isinstance(third, Built)
    assert isinstance(second, Rejected)
    assert (second.findings[0].check, second.findings[0].line) == ("compile", 3)


def test_tune_lines_are_filled_with_their_first_value(compiler):
    built = build_one(
        compiler,
        "// tune: ROWS = 16 | 32\n// launch: f<<<1, ROWS>>>(x, out)\n"
        'extern "C" __global__ void f(const float* x, float* out) { __shared__ float s[ROWS];'
        " s[threadIdx.x] = x[0]; __syncthreads(); out[0] = s[ROWS - 1 - threadIdx.x]; }",
    )
    assert isinstance(built, Built), built
    assert built.builds()[0].shared_bytes == 64


def test_the_kernels_of_the_device_suite_compile_for_a_gpu_that_is_not_here(compiler):
    files = sorted((Path(__file__).parent / "kernels").glob("*.cu"))
    outcomes = compiler.compile([file.read_text() for file in files], H200.arch)
    wrong = {
        file.name: getattr(outcome, "findings", None) or outcome.globals
        for file, outcome in zip(files, outcomes, strict=True)
        if not isinstance(outcome, Compiled) or outcome.globals
    }
    assert files
    assert not wrong


def test_a_functions_shared_memory_limit_is_its_largest_launchs(monkeypatch):
    """The driver keeps one limit a function: the last launch's would refuse the larger ones."""
    driver = pytest.importorskip("search_engine.devices.cuda.driver")
    limits = {}
    monkeypatch.setattr(
        driver.Function, "_set", lambda self, name, value: limits.__setitem__(name, value)
    )
    function = driver.Function(None, None)
    for shared in (96_000, 160_000, 1024, 0):
        function.allow(ResolvedLaunch("f", (1, 1, 1), (32, 1, 1), shared, (), False, None, 1))
    assert limits == {"MAX_DYNAMIC_SHARED_SIZE_BYTES": 160_000}
