"""Random graphs: what the analyser and the planner make of them means what torch computes.

Programs are executed exactly (``interpret.py``), so nothing is compiled but a handful.
"""

import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from search_engine.errors import CaptureError
from search_engine.hardware import H200
from search_engine.playbook import cost
from search_engine.playbook.plan import plans

# A fixture that makes files is fine to share between examples.
relaxed = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

UNARY = ["F.gelu({0})", "{0}.relu()", "{0} * 2 + 1", "{0}.sigmoid()", "1 - {0}", "{0}.tanh() * {0}"]
REDUCE = ["sum", "mean", "amax", "amin"]


class Module:
    """Code of a forward under construction, and the shape of every value so far."""

    def __init__(self, draw, shape):
        self.draw = draw
        self.lines, self.init = [], []
        self.values = [("x", tuple(shape))]

    def add(self, text, shape):
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.values.append((name, tuple(shape)))

    def parameter(self, shape):
        name = f"self.p{len(self.init)}"
        self.init.append(f"{name} = nn.Parameter(torch.ones({tuple(shape)}))")
        return name

    def choose(self, options):
        return self.draw(st.sampled_from(options))

    def step(self):
        name, shape = self.values[-1] if self.choose([0, 0, 1]) == 0 else self.choose(self.values)
        kinds = ["unary", "binary", "view", "reduce", "normalise", "pad", "product", "window"]
        getattr(self, self.choose(kinds))(name, shape)

    def unary(self, name, shape):
        self.add(self.choose(UNARY).format(name), shape)

    def binary(self, name, shape):
        other, their = self.choose(self.values)
        try:
            result = torch.broadcast_shapes(shape, their)
        except RuntimeError:
            return self.unary(name, shape)
        if result.numel() > 2000:
            return self.unary(name, shape)
        self.add(f"{name} {self.choose(['+', '*', '-'])} {other}", result)

    def view(self, name, shape):
        meta = torch.empty(shape, device="meta")
        options = [f"{name}.flatten()", f"{name}.unsqueeze(0)"]
        if len(shape) >= 2:
            order = self.draw(st.permutations(range(len(shape))))
            options += [f"{name}.permute({order})", f"{name}.transpose(0, -1)"]
            options += [f"{name}.flatten(0, 1)", f"{name}.permute({order}).reshape(-1)"]
        count = meta.numel()
        for size in (2, 3, 4):
            if count % size == 0:
                options.append(f"{name}.reshape({size}, {count // size})")
        if shape and shape[-1] > 1:
            options += [f"{name}[..., 1:]", f"{name}[..., ::2]", f"{name}.flip(-1)"]
        text = self.choose(options)
        self.add(text, eval(text, {name: meta}).shape)

    def reduce(self, name, shape):
        if not shape:
            return self.unary(name, shape)
        dim = self.draw(st.integers(0, len(shape) - 1))
        keep = self.choose([True, False])
        text = f"{name}.{self.choose(REDUCE)}({dim}, keepdim={keep})"
        self.add(text, eval(text, {name: torch.empty(shape, device="meta")}).shape)

    def normalise(self, name, shape):
        if not shape or shape[-1] == 1:
            return self.unary(name, shape)
        dim = self.draw(st.integers(0, len(shape) - 1))
        rows = f"F.layer_norm({name}, ({shape[-1]},))"
        self.add(self.choose([f"{name}.softmax({dim})", rows]), shape)

    def pad(self, name, shape):
        if not shape:
            return self.unary(name, shape)
        before, behind = self.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        padded = f"F.pad({name}, ({before}, {behind}), value={self.choose([0.0, 1.5])})"
        joined = f"torch.cat([{name}, {name} * 2], -1)"
        text = self.choose([padded, joined])
        meta = {name: torch.empty(shape, device="meta"), "F": torch.nn.functional, "torch": torch}
        self.add(text, eval(text, meta).shape)

    def product(self, name, shape):
        if len(shape) < 2 or torch.Size(shape).numel() > 400:
            return self.unary(name, shape)
        if self.choose([True, False]):
            weight = self.parameter((shape[-1], 3))
            self.add(f"{name} @ {weight}", (*shape[:-1], 3))
        else:
            self.add(f"{name} @ {name}.transpose(-1, -2)", (*shape[:-1], shape[-2]))

    def window(self, name, shape):
        if len(shape) not in (3, 4) or min(shape[-2:]) < 3:
            return self.unary(name, shape)
        options = [f"F.max_pool2d({name}, 2)", f"F.avg_pool2d({name}, 3, stride=1, padding=1)"]
        if len(shape) == 4:
            weight = self.parameter((2, shape[1], 3, 3))
            options.append(f"F.conv2d({name}, {weight}, padding=1)")
        text = self.choose(options)
        values = {name: torch.empty(shape, device="meta"), "F": torch.nn.functional}
        if "conv2d" in text:
            return self.add(text, (shape[0], 2, *shape[2:]))
        self.add(text, eval(text, values).shape)


@st.composite
def modules(draw, most=7):
    """(inputs, forward, init) of a random module."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    module = Module(draw, shape)
    for _ in range(draw(st.integers(1, most))):
        module.step()
    returned = [name for name, _ in module.values[1:]]
    last = returned[-1]
    out = f"{last}, {draw(st.sampled_from(returned))} * 2" if draw(st.booleans()) else last
    forward = "\n".join([*module.lines, f"return {out}"])
    sizes = ", ".join(str(size) for size in shape)
    return f"x=float32[{sizes}]", forward, "\n".join(module.init) or "pass"


# Found by the test below: a sum over the very axis that the concatenation chooses along, and
# part of a row whose norm needs all of it.
FOUND = [
    ("x=float32[2]", "v = x.sum(0, keepdim=True)\nreturn 1 - torch.cat([v, v * 2], -1)", "pass"),
    ("x=float32[3, 4]", "return F.layer_norm(x, (4,))[..., 1:]", "pass"),
]


@relaxed
@given(modules())
@example(FOUND[0])
@example(FOUND[1])
def test_a_random_graph_means_what_torch_computes(take, interpreter, in_double, module):
    try:
        captured = take(*module)
    except CaptureError:  # nothing but views: nothing to compute
        assume(False)
    captured.randomise(1, "normal")
    call = captured.draw(1, "normal")
    exact = in_double(captured, call)
    for plan in plans(captured.task, H200, lambda nest: cost.least_seconds(nest, H200)):
        out = interpreter.interpret_plan(plan, captured.task, captured.tensors(call))
        for name, expected in exact.items():
            # Loose, as scratch is float32 and a norm of equal values is all rounding.
            assert torch.allclose(out[name].double(), expected, rtol=1e-3, atol=1e-3), plan.key
    captured.restore()
