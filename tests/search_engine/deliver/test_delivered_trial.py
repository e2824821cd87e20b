"""A kernel that was never measured: its first use on a GPU."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("strict")
X = torch.randn(4, 8)


def test_first_use_checks_times_and_keeps_the_faster(deliver, expected):
    found = deliver(measured=False)
    found.gpu.model = "NVIDIA L40S"  # any will do: it is tried
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match=r"first time on a GPU: .* The kernel is kept"):
        torch.testing.assert_close(net(X), expected(found, X))
    runs = found.gpu.runs
    net(X)
    assert found.gpu.runs == runs + 1
    assert found.kernel.explain(net, X) == "kernel"
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(X)
    assert found.gpu.runs == runs + 2


def test_first_use_keeps_the_original_where_that_is_faster(deliver, expected):
    found = deliver(measured=False)
    found.gpu.times = [2.0, 1.0]
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match="The original is kept"):
        torch.testing.assert_close(net(X), expected(found, X))
    runs = found.gpu.runs
    torch.testing.assert_close(net(X), expected(found, X))
    assert found.gpu.runs == runs


def test_first_use_refuses_a_kernel_that_is_off(deliver, expected):
    found = deliver(measured=False)
    found.gpu.factor = 1.0 + 1e-5
    net = found.user.Net().eval()
    with pytest.warns(
        UserWarning, match="has an error of (1.0e-05|9.9e-06) on this GPU, more than"
    ):
        torch.testing.assert_close(net(X), expected(found, X))
    assert found.gpu.runs == 1
    net(X)
    assert found.gpu.runs == 1


def test_compile_before_the_first_trial_takes_the_original(deliver, expected):
    found = deliver(measured=False)
    net = found.user.Net().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), expected(found, X))
    assert found.gpu.runs == 0
