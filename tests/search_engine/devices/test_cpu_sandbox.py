"""Kernels that try to reach the host: each ends as a finding, and this process goes on."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch
from elftools.elf.elffile import ELFFile

from search_engine.contract.parse import parse
from search_engine.devices._base import Program
from search_engine.devices.cpu.device import CpuDevice
from search_engine.devices.cpu.screen import include_finding
from search_engine.devices.cpu.toolchain import find_toolchain
from search_engine.errors import SetupError
from search_engine.hardware import H200

X = torch.ones(32)
LAUNCH = "// launch: f<<<1, 32>>>(x, out)\n"
BODY = """
extern "C" __global__ void f(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }
"""


def _findings(cpu: CpuDevice, source: str):
    """What the device's own layers say, without the contract's reading of the text."""
    [built] = cpu._builder.build([parse(source)])
    assert isinstance(built, list), "it was built"
    return built


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("# heading\nint stolen = \"it's the key 12345;\n")
    return path


INCLUDES = {
    "plainly": '#include "{path}"',
    "by a macro": '#define Q "{path}"\n#include Q',
    "by a pasted macro": "#define S2(x) #x\n#define S(x) S2(x)\n#include S({path})",
    "relative": '#include "../../../../../../../../../..{path}"',
    "in a raw string": 'const char* s = R"(\n)"\n#include "{path}"\n;',
}


@pytest.mark.parametrize("way", INCLUDES)
def test_a_file_cannot_be_included(way, cpu, secret) -> None:
    source = LAUNCH + INCLUDES[way].format(path=secret) + BODY
    findings = _findings(cpu, source)
    assert findings[0].check in ("include", "unsupported")
    assert "12345" not in str(findings)
    assert "heading" not in str(findings)


def test_the_include_finding_has_the_line() -> None:
    assert include_finding('\n\n#include "/etc/passwd"\n').line == 3
    assert include_finding('#include <cuda_fp16.h>\n#define Q "x"\n#include Q\n').line == 3


STATIC = {
    "a global that is computed on loading": (
        'extern "C" double sqrt(double);\n__device__ double start = sqrt((double)(long)&start);',
        "static-initialiser",
    ),
    "a constructor function": (
        "#define HIDE constructor\n__attribute__((HIDE)) void go() {}", "host-code",
    ),
    "a constructor attribute of C++11": ("[[gnu::constructor]] void go() {}", "host-code"),
    "an object with a constructor": (
        'extern "C" int abs(int);\nstruct S { int v; S() { v = abs((int)(long)this); } };\n'
        "__device__ S object;",
        "static-initialiser",
    ),
    "a resolver": (
        'extern "C" { static void* find() { return 0; } void g() '
        '__attribute__((ifunc("find"))); }',
        "host-code",
    ),
    "system()": (
        'extern "C" int system(const char*);\n__device__ int run() { return system("id"); }\n'
        "__device__ int (*volatile hook)() = run;",
        "undefined-symbol",
    ),
    "raw syscall()": (
        'extern "C" long syscall(long, ...);\n__device__ long go() { return syscall(2); }\n'
        "__device__ long (*volatile hook)() = go;",
        "undefined-symbol",
    ),
    "assembly": ('__device__ void go() { asm volatile("syscall"); }', "unsupported"),
    "assembly, pasted": (
        '#define A as##m\n__device__ void go() { A volatile("syscall"); }', "unsupported",
    ),
    "assembly at file scope": ('__asm__(".incbin \\"/etc/passwd\\"");', "unsupported"),
    "assembly in a section's name": (
        '__attribute__((section(".x,\\"a\\"\\n.incbin \\"/etc/passwd\\"\\n#"))) int data;',
        "host-code",
    ),
    "unhooked code": (
        '__attribute__((no_sanitize("thread"))) __device__ void go() {}', "host-code",
    ),
    "unhooked code by a macro of the runtime": (
        "SIMT_UNHOOKED __device__ void go() {}", "reserved-name",
    ),
    "hooks of its own": ('extern "C" void __tsan_read4(void*) {}', "reserved-name"),
    "hooks of its own, pasted": (
        '#define P(a, b) a##b\nextern "C" void P(__ts, an_read4)(void*) {}', "reserved-name",
    ),
    "lines that pass for a header's": (
        '#line 1 "simt.h"\n__device__ void go() { asm volatile("syscall"); }', "directive",
    ),
    "a line marker": ('# 1 "simt.h" 1\nvoid go() { asm volatile("syscall"); }', "directive"),
    "options in the source": ('#pragma GCC optimize("O0")', "directive"),
    "options by an operator": ('_Pragma("GCC optimize(\\"O0\\")")', "directive"),
    "instructions by name": (
        "__device__ void go() { __builtin_ia32_rdtsc(); }", "host-code",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATIC)
def test_what_must_not_be_loaded_is_not(name, cpu) -> None:
    text, check = STATIC[name]
    findings = _findings(cpu, LAUNCH + text + BODY)
    assert check in {finding.check for finding in findings}, findings


def test_refusals_have_the_line(cpu) -> None:
    text = '\n\n__device__ void go() {\n  asm volatile("mov.u32 %r1, %r2;");\n}'
    [finding] = _findings(cpu, LAUNCH + text + BODY)
    assert finding.check == "unsupported"
    assert "PTX" in finding.message
    assert finding.line == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("#include <cuda/barrier>\n", "cuda/barrier"),
        ("__device__ float get(cudaTextureObject_t t) { return tex1Dfetch<float>(t, 0); }", "text"),
        ("__device__ void go(cg::cluster_group c) {}", "clusters"),
    ],
)
def test_what_cannot_run_here_is_named(text, what, cpu) -> None:
    finding = _findings(cpu, LAUNCH + text + BODY)[0]
    assert (finding.check, finding.line) == ("unsupported", 2)
    assert what in finding.message


# --- at run time ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory) -> CpuDevice:
    return CpuDevice(H200, timeout=1.0, cache=tmp_path_factory.mktemp("impatient"))


RUNS = {
    "an endless loop": (
        "volatile int go = 1; while (go) {} out[0] = x[0];", "timeout",
    ),
    "an endless wait for another thread": (
        "volatile float* o = out; o[0] = 0; while (threadIdx.x == 0 && o[0] == 0) {}", "timeout",
    ),
    "a stack that runs over": ("out[0] = deep(1 << 30, x);", "fault"),
    "a division by zero": (
        "int zero = (int)(x[0] * 0.0f); out[0] = (float)(7 / zero);", "fault",
    ),
    "a null pointer": (
        "float* p = (float*)(size_t)(x[0] == 5.0f); *p = 1.0f;", "out-of-bounds",
    ),
    "a jump to nowhere": (
        "auto go = (void (*)())(long)(x[0] * 4096.0f); go(); out[0] = 0.0f;", "fault",
    ),
}  # fmt: skip
DEEP = """
__device__ __noinline__ float deep(int n, const float* x) {
  volatile float big[64];
  big[n & 63] = x[n & 31];
  return n == 0 ? big[0] : deep(n - 1, x) + big[n & 63];
}
"""


@pytest.mark.parametrize("name", RUNS)
def test_bad_behaviour_ends_as_a_finding(name, impatient, check_run) -> None:
    body, check = RUNS[name]
    if "division" in name and not find_toolchain().gcc:
        pytest.skip("clang takes it that nothing is divided by zero")
    source = LAUNCH + DEEP
    source += 'extern "C" __global__ void f(const float* x, float* out) {\n' + body + "\n}\n"
    findings = check_run(impatient, source, {"x": X}, {"out": X}).findings
    assert check in {finding.check for finding in findings}, findings


def test_a_fault_has_line_and_thread(cpu, check_run) -> None:
    source = LAUNCH + 'extern "C" __global__ void f(const float* x, float* out) {\n'
    source += "  int n = (int)x[0] - (threadIdx.x == 9);\n  out[threadIdx.x] = 5 / n;\n}\n"
    [fault] = [
        f for f in check_run(cpu, source, {"x": X}, {"out": X}).findings if f.check == "fault"
    ]
    assert fault.line == 4
    assert fault.place == "block (0, 0, 0) thread (9, 0, 0)"


def _distance_to_syscall() -> int:
    """Bytes from ``labs`` to ``syscall`` in this machine's C library."""
    libc = next(
        row.split()[-1]
        for row in Path("/proc/self/maps").read_text().splitlines()
        if "libc.so" in row or "libc-" in row
    )
    with Path(libc).open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        labs, syscall = (table.get_symbol_by_name(n)[0]["st_value"] for n in ("labs", "syscall"))
    return syscall - labs


CALLS = {"openat": 257, "socket": 41, "execve": 59, "fork": 57, "ptrace": 101, "kill": 62}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64 system calls")
@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_ends_the_worker(call, cpu, compile_one) -> None:
    """Found by arithmetic on an allowed function's address: no check of symbols sees it."""
    source = (
        LAUNCH
        + f"""
extern "C" __global__ void f(const float* x, float* out) {{
  long (*allowed)(long) = labs;
  auto go = (long (*)(long, long, const char*, long))((char*)allowed + {_distance_to_syscall()});
  if (threadIdx.x == 0) out[0] = (float)go({CALLS[call]}, -100, "/proc/self/environ", 0);
}}
"""
    )
    task, program = compile_one(cpu, source, {"x": X}, {"out": X})
    assert isinstance(program, Program), program
    findings = cpu.execute(program, task, {"x": X}, checked=True).findings
    assert any(f.check == "fault" and "SIGSYS" in f.message for f in findings), findings


def test_the_worker_has_no_environment(cpu, compile_one, monkeypatch) -> None:
    """``environ`` of the runner is empty, whatever this process has."""
    monkeypatch.setenv("KERNEL_TEST_KEY", "secret")
    ctypes.CDLL(None).setenv(b"KERNEL_TEST_KEY", b"secret", 1)
    runner = cpu._builder.runner()
    from search_engine.devices.cpu import worker

    seen = {}
    real = worker.subprocess.Popen

    def spy(*args, **kwargs):
        seen.update(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(worker.subprocess, "Popen", spy)
    assert worker.run(runner, "probe\n", (), 10.0).code == 0
    assert seen["env"] == {}


def test_without_a_lock_down_unknown_kernels_do_not_run(tmp_path, cpu, compile_one) -> None:
    task, program = compile_one(cpu, LAUNCH + BODY, {"x": X}, {"out": X})
    bare = CpuDevice(H200, cache=cpu._builder._cache)
    bare._guard = False  # as on a machine whose kernel refuses seccomp
    with pytest.raises(SetupError, match="lock-down"):
        bare.execute(program, task, {"x": X}, checked=True)
    bare.trust([program.kernel.source])
    assert bare.execute(program, task, {"x": X}, checked=True).findings == ()
    chosen = CpuDevice(H200, unguarded=True, cache=cpu._builder._cache)
    chosen._guard = False
    assert chosen.execute(program, task, {"x": X}, checked=True).findings == ()


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ("const float* x, float* out, int n", "x, out"),
        ("float x, float* out", "x, out"),
        ("const float* x, float* out, const int* n", "x, out, 5"),
        ("const float* x, float* out, unsigned n", "x, out, 0 - 5"),
        ("const float* x, float* out, short n", "x, out, 100000"),
    ],
)
def test_signatures_are_compared_as_compiled(parameters, arguments, cpu, compile_one) -> None:
    """Behind an alias, so that the text does not tell."""
    source = f"// launch: f<<<1, 1>>>({arguments})\n#define PARAMETERS {parameters}\n"
    source += 'extern "C" __global__ void f(PARAMETERS) { out[0] = 1.0f; }\n'
    _, rejected = compile_one(cpu, source, {"x": X}, {"out": X})
    assert [f.check for f in rejected.findings] == ["signature"]
    assert rejected.findings[0].line == 1
