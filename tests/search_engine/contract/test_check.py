import pytest

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200

HONEST = """\
// scratch: partial float32[x.size(0), 2]
// tune: BLOCK = 128 | 256
// launch: moments<<<x.size(0), BLOCK, 4*BLOCK>>>(x, partial)
// launch: apply<<<min(sm_count, 8), BLOCK>>>(x, ln.weight, partial, out, alpha, x.size(-1))
#include <cooperative_groups.h>
#include <cuda/std/limits>
#include <cuda_fp16.h>
namespace cg = cooperative_groups;
using F = float;
typedef unsigned int u32;
#if defined(FAST) && FAST > 1
#pragma unroll 4
#endif
#define SQUARE(v) ((v) * (v))
static constexpr int kWarp = 32;
constexpr float kTable[] = {1.f, 2.f};
const int kLanes = 32;
enum class Mode : int { A, B };
__constant__ float weights[3] = {1, 2, 3};
struct __align__(8) Pair {
  float a, b;
  __device__ Pair operator+(Pair o) const { return {a + o.a, b + o.b}; }
  __device__ float operator()(int i) const { return i ? a : b; }
};
template <typename T, int N = (3 > 2)>
__device__ __forceinline__ T twice(T x) { static __shared__ T s[N]; s[0] = x; return s[0] + x; }
__host__ __device__ inline int both(int x) { return x; }
namespace detail { namespace { __device__ float id(float x) { return x; } } }
__device__ float later(float x);
extern "C" __global__ void moments(const float* __restrict__ x, float2* p) {
  extern __shared__ float sh[];
  asm volatile("bar.sync 0;" ::: "memory");
  auto lambda = [&](float v) { return v < kTable[0] ? v : sh[0]; };
  p[blockIdx.x].x = lambda(x[0] << 2 < 3);
}
extern "C" {
__global__ void __launch_bounds__(256, 2)
apply(const float* x, const float* __restrict__ w, float2* p, float* out, float alpha, int n) {}
}
"""


def findings(task, source):
    return check(parse(source), task, H200)


def test_an_honest_kernel_has_none(task):
    honest = HONEST.replace("x[0] << 2 < 3", "x[0]")
    assert findings(task, honest) == []


LAUNCH = "// launch: k<<<1, 32>>>(x, out)\n"
KERNEL = 'extern "C" __global__ void k(const float* x, float* out) {}\n'


@pytest.mark.parametrize(
    ("code", "check_name"),
    [
        ("#include <cstdio>", "include"),
        ("#include <iostream>", "include"),
        ('#include "/etc/passwd"', "include"),
        ("#include </etc/passwd>", "include"),
        ("#include <cuda/std/../../../../etc/passwd>", "include"),
        ("#include <cuda/std/a//../b>", "include"),
        ('#define Q "/etc/passwd"\n#include Q', "include"),
        ("%:include <sys/socket.h>", "include"),
        ("#inc\\\nlude <sys/socket.h>", "include"),
        ("/* */ # /* */ include /* */ <stdlib.h>", "include"),
        ("#import <a>", "directive"),
        ("#include_next <math.h>", "directive"),
        ('#embed "/etc/passwd"', "directive"),
        ('#line 1 "other.cu"', "directive"),
        ('#ident "x"', "directive"),
        ("#if __has_include(</root/.ssh/id_rsa>)\n#endif", "directive"),
        ('#pragma GCC dependency "/etc/passwd"', "directive"),
        ('#pragma comment(lib, "x")', "directive"),
        ('_Pragma("GCC poison x")', "directive"),
        ("__device__ const char* where = __FILE__;", "directive"),
        ("int helper(int x) { return x; }", "host-code"),
        ("static inline int helper(int x) { return x; }", "host-code"),
        ("template <int N> int helper() { return N; }", "host-code"),
        ("constexpr int helper(int x) { return x; }", "host-code"),
        ("auto helper() -> int { return 1; }", "host-code"),
        ("__host__ void helper() {}", "host-code"),
        ("int main() { return 0; }", "host-code"),
        ('extern "C" int system(const char*);', "host-code"),
        ("namespace a { namespace b { void f() {} } }", "host-code"),
        ("struct S { S() {} };", "host-code"),
        ("struct S { ~S() {} } s;", "host-code"),
        ("struct S { operator int() { return 1; } };", "host-code"),
        ("int counter = 1;", "host-code"),
        ("int counter;", "host-code"),
        ("auto f = []() { return 1; }();", "host-code"),
        ("__managed__ int m;", "host-code"),
        ("__device__ int counter;", "device-state"),
        ("__device__ unsigned counter = 0;", "device-state"),
        ("namespace { __device__ int counter[4]; }", "device-state"),
        ("struct S { static int counter; };", "device-state"),
        ("__device__ int f() { static int calls = 0; return ++calls; }", "device-state"),
        ('asm(".incbin \\"/etc/passwd\\"");', "host-code"),
        ("__device__ void f(float* x) { k<<<1, 2>>>(x, x); }", "host-code"),
        ("// ??/\n", "host-code"),
        ("int \u202e x;", "host-code"),
        ("template <int N> __global__ void t() {}", "kernel-name"),
        ("__global__ void t() {}", "kernel-name"),
    ],
)
def test_what_is_no_device_code(task, code, check_name):
    found = findings(task, LAUNCH + KERNEL + code)
    assert check_name in [f.check for f in found]
    assert all(f.line is not None and f.line >= 3 for f in found)


@pytest.mark.parametrize(
    "code",
    [
        "// #include <cstdio>",
        "/*\n#include <cstdio>\nint main() {}\n*/",
        '__device__ const char* const text = "int main() {}";',
        "#include <cooperative_groups/reduce.h>",
        "#include <cuda/std/type_traits>",
        "__device__ int f(int a, int b) { return a << b < 3; }",
        "__device__ float g(float x) { static const float t[2] = {1, 2}; return t[0] * x; }",
    ],
)
def test_what_only_looks_like_it(task, code):
    assert findings(task, LAUNCH + KERNEL + code) == []


def one(task, source):
    (finding,) = findings(task, source)
    return finding


def test_a_function_that_is_not_there(task):
    finding = one(task, LAUNCH.replace("k<", "kern<") + KERNEL.replace(" k(", " kernel("))
    assert (finding.check, finding.line) == ("unknown-function", 1)
    assert "did you mean `kernel`?" in finding.message


def test_a_function_that_is_only_in_a_comment(task):
    assert one(task, LAUNCH + "// " + KERNEL).check == "unknown-function"


def test_functions_that_macros_make_are_left_to_the_compiler(task):
    source = (
        LAUNCH + '#define K(n) extern "C" __global__ void n(const float* x, float* o) {}\nK(k)\n'
    )
    assert findings(task, source) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("const float* x", "takes 1 arguments (const float*), the launch line gives 2"),
        ("const float* x, float* out, int n", "takes 3 arguments"),
        ("const float* x, int out", "`out` is a tensor"),
    ],
)
def test_arguments_against_the_signature(task, parameters, words):
    finding = one(task, LAUNCH + KERNEL.replace("const float* x, float* out", parameters))
    assert (finding.check, finding.line) == ("arguments", 1)
    assert words in finding.message


def test_a_number_for_a_pointer(task):
    finding = one(task, LAUNCH.replace("(x,", "(1.0,") + KERNEL)
    assert "`1.0` is a number, `k` takes a `const float*` here" in finding.message
    assert finding.column == 25


def test_types_behind_macros_and_aliases_are_left_to_the_compiler(task):
    source = LAUNCH + "#define IN const float* x,\n" + KERNEL.replace("const float* x,", "IN")
    assert findings(task, source) == []
    source = LAUNCH + "using P = float*;\n" + KERNEL.replace("float* out", "P out")
    assert findings(task, source) == []


def test_all_findings_at_once_in_order(task):
    source = "// launch: k<<<0, 32>>>(y, out)\n#include <cstdio>\nint f() { return 1; }\n" + KERNEL
    assert [f.line for f in findings(task, source)] == [1, 2, 3]
