"""One step of a recurrent network, as the linear layers and gates that it is.

``CELLS`` holds the rules, after the formulas of torch.nn.GRUCell and torch.nn.RNNCell.
"""

from __future__ import annotations

from search_engine.graph import Argument, Ref
from search_engine.playbook.decompose import Builder, Rule


def _linear(b: Builder, x: Ref, weight: Ref, bias: Argument) -> Ref:
    shape = (*b.shape(x)[:-1], b.shape(weight)[0])
    given = (bias,) if isinstance(bias, Ref) else ()
    return b.add("aten.linear.default", x, weight, *given, shape=shape, dtype=b.work)


def _both(b: Builder) -> tuple[Ref, Ref]:
    """What the input and what the hidden state contribute to every gate."""
    x, hidden = b.ref(0, "input"), b.ref(1, "hx")
    first = _linear(b, x, b.ref(2, "w_ih"), b.given(4, "b_ih"))
    return first, _linear(b, hidden, b.ref(3, "w_hh"), b.given(5, "b_hh"))


def _gru(b: Builder) -> Ref:
    """r, z: logistic; n = tanh(xₙ + r · hₙ); h' = n + z · (h − n)."""
    sums = _both(b)
    width = b.node.shape[-1]
    gates = [
        [
            b.add(
                "aten.slice.Tensor", total, -1, at * width, (at + 1) * width,
                shape=b.node.shape, dtype=b.work,
            )
            for at in range(3)
        ]
        for total in sums
    ]  # fmt: skip
    (reset, update, new), (own_reset, own_update, own_new) = gates
    r = b.unary("sigmoid", b.plus(reset, own_reset))
    z = b.unary("sigmoid", b.plus(update, own_update))
    n = b.unary("tanh", b.plus(new, b.mul(r, own_new)))
    return b.plus(n, b.mul(z, b.sub(b.ref(1, "hx"), n)))


def _elman(activation: str) -> Rule:
    def rule(b: Builder) -> Ref:
        return b.unary(activation, b.plus(*_both(b)))

    return rule


CELLS: dict[str, Rule] = {
    "gru_cell": _gru,
    "rnn_tanh_cell": _elman("tanh"),
    "rnn_relu_cell": _elman("relu"),
}
