"""NVRTC in confined helpers: cubins, findings, include smuggling, keys, the cache. No GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings.nvrtc")

from search_engine.devices.cuda import confine, headers
from search_engine.devices.cuda.compiler import Compiled, Compiler, Failed, Helper, screen_includes

ARCH = "sm_90a"
GOOD = """\
// launch: scale<<<1, 64>>>(x, 64, 2.0)
extern "C" __global__ void scale(float* __restrict__ x, int n, double a, bool flip) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < n) x[threadIdx.x] = a * tile[flip ? 63 - threadIdx.x : threadIdx.x];
}
extern "C" __global__ void nothing() {}
"""


def compile_one(compiler, source):
    (outcome,) = compiler.compile([source], ARCH)
    return outcome


def test_a_kernel_becomes_machine_code_with_its_resources(compiler):
    outcome = compile_one(compiler, GOOD)
    assert isinstance(outcome, Compiled)
    assert outcome.cubin[:4] == b"\x7fELF"
    assert sorted(outcome.functions) == ["nothing", "scale"]
    scale = outcome.functions["scale"]
    assert scale.parameters == (8, 4, 8, 1)
    assert scale.shared_bytes == 256
    assert 0 < scale.registers < 64
    assert scale.local_bytes == 0
    assert outcome.functions["nothing"].parameters == ()
    assert outcome.globals == ()


def test_an_array_in_local_memory_is_counted(compiler):
    outcome = compile_one(
        compiler,
        'extern "C" __global__ void f(float* x, int n) { float a[100]; for (int i = 0; i < 100; '
        "++i) a[i] = x[i * n]; for (int i = 0; i < n; ++i) x[i] = a[int(x[i]) % 100]; }",
    )
    assert outcome.functions["f"].local_bytes == 400


def test_errors_have_line_column_and_message(compiler):
    outcome = compile_one(
        compiler,
        'extern "C" __global__ void f(float* x) {\n    float y = 1;\n    x[0] = y + undeclared;\n'
        "  x[1] = z;\n}\n",
    )
    assert isinstance(outcome, Failed)
    first, second = outcome.findings
    assert (first.check, first.line, first.column) == ("compile", 3, 16)
    assert first.message == 'identifier "undeclared" is undefined'
    assert (second.line, second.column) == (4, 10)


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ('extern "C" __global__ void f(float* x) { x[0] = INFINITY; }', "CUDART_INF_F"),
        ('extern "C" __global__ void f(int* x) { uint32_t a = 1; x[0] = a; }', "unsigned int"),
        ("#include <float.h>\n", "CUDA's own headers"),
    ],
)
def test_what_nvrtc_lacks_comes_with_what_to_write_instead(compiler, source, advice):
    assert advice in compile_one(compiler, source).findings[0].message


def test_many_come_back_in_order(compiler):
    sources = [f'extern "C" __global__ void f{i}(int* x) {{ x[0] = {i}; }}' for i in range(8)]
    outcomes = compiler.compile(sources, ARCH)
    assert [next(iter(o.functions)) for o in outcomes] == [f"f{i}" for i in range(8)]


@pytest.mark.parametrize(
    ("declaration", "use", "expected"),
    [
        ("__device__ unsigned count;", "x[0] = atomicAdd(&count, 1u);", ("count",)),
        ("__device__ float cache[8][2];", "x[1] = cache[x[0]][1]; cache[0][1] = x[2];", ("cache",)),
        ("__managed__ int kept;", "kept = x[0];", ("kept",)),
        ("", "static int calls; x[0] = ++calls;", ("_ZZ1fE5calls",)),
        ("", 'asm volatile(".global .u32 hid; st.global.u32 [hid], 3;");', ("hid",)),
        ("", 'asm volatile("// {\\n.global .u32 hid; st.global.u32 [hid], 3;");', ("hid",)),
        ("__device__ int unused;", "x[0] = 1;", ()),
        ("__constant__ int table[3] = {1, 2, 3};", "x[0] = table[x[1]];", ()),
        ("", 'printf("%d", x[0]);', ()),
        ("#include <cooperative_groups.h>", "cooperative_groups::this_grid().sync();", ()),
    ],
    ids=["scalar", "array", "managed", "static", "ptx", "ptx-comment", "unused", "constant",
         "string", "headers"],
)  # fmt: skip
def test_variables_that_outlive_a_launch_are_named(compiler, declaration, use, expected):
    outcome = compile_one(
        compiler, f'{declaration}\nextern "C" __global__ void f(int* x) {{ {use} }}'
    )
    assert isinstance(outcome, Compiled), outcome
    assert tuple(name.removeprefix("$__").split("__")[0] if name.startswith("$") else name
                 for name in outcome.globals) == expected  # fmt: skip


SMUGGLED = {
    "plain": '#include "/etc/passwd"\n',
    "angle": "#include </etc/passwd>\n",
    "macro": '#define Q "/etc/passwd"\n#include Q\n',
    "digraph": '%:include "/etc/passwd"\n',
    "spliced": '#inc\\\nlude "/etc/passwd"\n',
    "up": '#include "../../../../../../../../etc/passwd"\n',
    "comment": '#/**/include/**/"/etc/passwd"\n',
}


@pytest.mark.parametrize("prefix", SMUGGLED.values(), ids=SMUGGLED)
def test_smuggled_includes_are_refused_by_their_text(prefix):
    (finding,) = screen_includes(prefix + GOOD)
    assert finding.check == "include"
    assert finding.line in (1, 2)


def test_cuda_headers_and_text_that_only_looks_like_an_include_pass():
    assert not screen_includes(
        '#include <cuda_fp16.h>\n# include "cooperative_groups.h"\n// #include "/etc/passwd"\n'
        'const char* s = R"(\n#include "/etc/passwd"\n)";\n'
    )


@pytest.mark.skipif(confine.landlock_version() == 0, reason="this machine has no Landlock")
@pytest.mark.parametrize("prefix", [SMUGGLED["plain"], SMUGGLED["macro"]])
def test_the_helper_itself_cannot_open_files_outside_cudas_headers(prefix):
    helper = Helper()
    try:
        reply, cubin = helper.compile(prefix + GOOD, ARCH)
    finally:
        helper.close()
    assert not reply["ok"]
    assert "root:" not in reply["log"]
    assert "cannot open" in reply["log"]
    assert cubin == b""


def test_the_helper_has_no_keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-helpers")
    monkeypatch.setenv("MY_TOKEN", "nor-this")
    helper = Helper()
    try:
        environment = Path(f"/proc/{helper._process.pid}/environ").read_bytes()
    finally:
        helper.close()
    assert b"PATH=" in environment
    assert b"not-for-helpers" not in environment
    assert b"nor-this" not in environment


def test_a_helper_that_dies_costs_one_kernel(compiler):
    compiler.compile([GOOD + "// alive"], ARCH)
    alive = [h for h in list(compiler._idle.queue) if h is not None]
    assert alive
    source = "#include <cuda_fp16.h>\n" + GOOD
    for helper in alive:
        os.kill(helper._process.pid, signal.SIGKILL)
        helper._process.wait()
    assert isinstance(compile_one(compiler, source), Compiled)


def test_a_source_that_eats_time_is_ended(compiler, monkeypatch):
    monkeypatch.setattr("search_engine.devices.cuda.compiler.COMPILE_SECONDS", 0.5)
    bomb = (
        "template<int D, int I> struct T { static constexpr int v = T<D-1, 2*I>::v + "
        "T<D-1, 2*I+1>::v; };\ntemplate<int I> struct T<0, I> { static constexpr int v = I; };\n"
        'extern "C" __global__ void f(int* x) { x[0] = T<22, 1>::v; }'
    )
    outcome = compile_one(compiler, bomb)
    assert isinstance(outcome, Failed)
    assert "more than" in outcome.findings[0].message
    monkeypatch.undo()
    assert isinstance(compile_one(compiler, GOOD + "// after"), Compiled)


def test_a_second_compiler_finds_the_cubin_in_the_cache(tmp_path):
    first = Compiler(helpers=1, cache=tmp_path)
    made = compile_one(first, GOOD)
    first.close()
    second = Compiler(helpers=1, cache=tmp_path)
    again = compile_one(second, GOOD)
    other = compile_one(second, GOOD + "// other")
    second.close()
    assert made.seconds > 0
    assert again.seconds == 0
    assert (again.cubin, again.functions) == (made.cubin, made.functions)
    assert other.seconds > 0


def test_a_damaged_cache_entry_is_compiled_again(tmp_path):
    first = Compiler(helpers=1, cache=tmp_path)
    made = compile_one(first, GOOD)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:100])
    again = compile_one(first, GOOD)
    first.close()
    assert again.seconds > 0
    assert again.cubin == made.cubin


@pytest.mark.parametrize("toolkit_version", ["13000", "12080"])
def test_what_the_wheels_lack_comes_from_a_toolkit_of_the_same_version(
    monkeypatch, tmp_path, toolkit_version
):
    wheel, toolkit = tmp_path / "wheel", tmp_path / "toolkit" / "include"
    for folder, version in ((wheel, "13000"), (toolkit, toolkit_version)):
        folder.mkdir(parents=True)
        (folder / "cuda_runtime_api.h").write_text(f"#define CUDART_VERSION  {version}\n")
    (toolkit / "crt").mkdir()
    (toolkit / "crt/mma.h").write_text("")
    (wheel / "cccl").mkdir()
    found = {"cudart": str(wheel), "cccl": None}
    monkeypatch.setattr("cuda.pathfinder.find_nvidia_header_directory", found.get)
    monkeypatch.setattr(headers, "_toolkits", lambda: [tmp_path / "none", toolkit])
    expected = [str(wheel), str(wheel / "cccl")]
    if toolkit_version == "13000":
        expected.append(str(toolkit))
    assert list(headers.include_folders.__wrapped__()) == expected


def test_the_server_side_of_the_package_needs_no_torch():
    code = "import search_engine.devices.cuda.compiler, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
