"""Graphs that are no single loop nest: several launches with scratch between, held to fp64."""

import pytest

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook import catalogue
from search_engine.playbook.pipeline import Pipeline
from search_engine.playbook.plan import plans

MLP = (
    "x=float32[6, 20]",
    "return self.b(F.gelu(self.a(x))).softmax(-1)",
    "self.a = nn.Linear(20, 24)\nself.b = nn.Linear(24, 10)",
)
CASES = {
    "two_softmaxes": ("x=float32[4, 6]", "return x.softmax(0) + x.softmax(1)", "pass"),
    "mlp": MLP,
    "conv_pool": (
        "x=float32[2, 3, 9, 9]",
        "return F.max_pool2d(F.relu(self.c(x)) * 2, 2)",
        "self.c = nn.Conv2d(3, 4, 3, padding=1)",
    ),
    "attention": (
        "x=float32[2, 5, 8]",
        "q, k, v = self.q(x), self.k(x), self.v(x)\n"
        "return (q @ k.transpose(1, 2) * 0.3).softmax(-1) @ v + x",
        "self.q = nn.Linear(8, 8)\nself.k = nn.Linear(8, 8)\nself.v = nn.Linear(8, 8)",
    ),
    # Sums over 8 and over 32 lanes, each in two of the launches.
    "squeeze_excite": (
        "x=float32[8, 3, 12, 12]",
        "y = F.relu(self.bn(self.c(x)))\n"
        "y = y * torch.sigmoid(self.f(y.mean((2, 3))))[:, :, None, None]\n"
        "return F.avg_pool2d(y, 2).flatten(1)",
        "self.c = nn.Conv2d(3, 8, 3, padding=1)\n"
        "self.bn = nn.BatchNorm2d(8)\nself.f = nn.Linear(8, 8)",
    ),
    "half_and_indices": (
        "x=float16[4, 6]",
        "return x.softmax(0) + x.softmax(1) * x.amax(), x.argmax(1)",
        "pass",
    ),
    "outputs_of_unrelated_shapes": (
        "x=float32[4, 6, 10]",
        "return x.relu(), x[:, ::2].flatten(1)[:, :30] * 3",
        "pass",
    ),
    "an_uneven_view": (
        "x=float32[6, 5, 2]",
        "return (x.permute(2, 0, 1).reshape(5, 12) * 2).sum(0)",
        "pass",
    ),
    "a_reduction_used_along_other_dimensions": (
        "x=float32[5, 5]",
        "return x + x.mean(0)[:, None] * x.amax(1)",
        "pass",
    ),
}


def pipelines(captured):
    return [c for c in catalogue.candidates(captured.task, H200) if isinstance(c, Pipeline)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_plans_compute_what_the_module_does(take, agree, name):
    captured = take(*CASES[name])
    found = pipelines(captured)
    assert found
    sources = [found[0].render(found[0].variants()[0])]
    agree(captured, sources, draws=[("normal", 1)])


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_candidate_keeps_the_contract(take, name, nvrtc):
    captured = take(*CASES[name])
    found = pipelines(captured)
    assert len({c.key for c in found}) == len(found)
    assert len({c.title for c in found}) == len(found)
    for candidate in found:
        variants = candidate.variants()
        assert len({v.label for v in variants}) == len(variants)
        for variant in variants[:1]:
            assert candidate.valid(variant)
            source = candidate.render(variant)
            assert check(parse(source), captured.task, H200) == []
    nvrtc(found[0].render(found[0].variants()[0]))


def test_labels_of_several_stages_are_read_back(take):
    (first, *_) = pipelines(take(*MLP))
    variant = first.variants()[1]
    assert type(variant).parse(variant.label) == variant


def test_scratch_follows_the_batch(take):
    (plan, *_) = plans(take(*MLP).task, H200, catalogue.Ranking(H200).best_seconds)
    lines = [line for stage in plan.stages for line in stage.lines]
    assert lines
    assert all("[x.size(0), " in line for line in lines)


def test_contractions_take_what_follows_them(take):
    (plan, *_) = plans(take(*MLP).task, H200, catalogue.Ranking(H200).best_seconds)
    assert plan.stages[0].operators == ("linear", "gelu")


def asked(take, layers):
    """How many nests a network of equal layers has ideas asked for."""
    forward = "".join(f"x = F.gelu(self.l{i}(F.layer_norm(x, (16,)))) + x\n" for i in range(layers))
    init = "\n".join(f"self.l{i} = nn.Linear(16, 16)" for i in range(layers))
    task = take("x=float32[32, 16]", f"{forward}return x", init).task
    seen = []
    ranking = catalogue.Ranking(H200)

    def predicted(nest):
        seen.append(nest)
        return ranking.best_seconds(nest)

    plan = plans(task, H200, predicted)[0]
    assert len(plan.stages) == 2 * layers
    return len(seen)


def test_layers_that_repeat_are_ranked_once(take):
    assert asked(take, 8) <= asked(take, 4) + 2
