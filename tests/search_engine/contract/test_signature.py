import pytest

from search_engine.contract.signature import signatures


@pytest.mark.parametrize(
    ("parameters", "types"),
    [
        ("", ()),
        ("void", ()),
        ("const float* __restrict__ x, float *y", ("const float*", "float*")),
        ("float const *x", ("float const*",)),
        ("const unsigned long long n", ("const unsigned long long",)),
        ("unsigned n, long", ("unsigned", "long")),
        ("int m[], float v[4]", ("int*", "float*")),
        ("__half2* const x", ("__half2*",)),
        ("float4 *, size_t", ("float4*", "size_t")),
        ("cg::grid_group<3, 2> g", ("cg::grid_group<3,2>",)),
        ("ns::type", ("ns::type",)),
        ("const __grid_constant__ Params p", ("const Params",)),
        ("float x = 1.f", ("float",)),
    ],
)
def test_parameter_types(parameters, types):
    source = f'extern "C" __global__ void __launch_bounds__(256, 2) k({parameters}) {{}}'
    assert signatures(source) == {"k": types}


def test_only_kernels_and_each_once():
    source = """
    __device__ float f(float x) { return x; }
    extern "C" __global__ void a(int n);
    extern "C" __global__ void a(int n) { if (n < 3) {} }
    // __global__ void commented(int n) {}
    namespace x { extern "C" { void __global__ b(float *p) {} } }
    """
    assert signatures(source) == {"a": ("int",), "b": ("float*",)}
