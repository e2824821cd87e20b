import itertools

from search_engine.search.sampler import Sampler
from search_engine.verdict import Sample

TUNES = {"BLOCK": ("32", "64", "128", "256", "512"), "TYPE": ("float", "float2", "float4")}
SPACE = [dict(zip(TUNES, choice, strict=True)) for choice in itertools.product(*TUNES.values())]


def sample(seconds, spread=0.01):
    return Sample(seconds, seconds * (1 - spread), seconds * (1 + spread), 20)


def model(values):
    """Likes large blocks, knows nothing of types."""
    return 1 / int(values["BLOCK"])


def sweep(sampler, seconds, count):
    tried = []
    for _ in range(count):
        values = sampler.next()
        tried.append(values)
        sampler.tell(sample(seconds(values)))
    return tried


def test_a_space_within_the_budget_is_tried_whole_in_the_models_order():
    sampler = Sampler(TUNES, SPACE, len(SPACE), model)
    tried = sweep(sampler, lambda values: 1.0, len(SPACE))
    assert sampler.next() is None
    assert [v["BLOCK"] for v in tried] == sorted((v["BLOCK"] for v in SPACE), key=int, reverse=True)
    assert len({tuple(v.items()) for v in tried}) == len(SPACE)


def test_beyond_the_models_favourites_it_learns_from_the_times():
    wide = {"BLOCK": tuple(str(32 * i) for i in range(1, 33)), "ROWS": ("1", "2", "4", "8")}
    space = [dict(zip(wide, choice, strict=True)) for choice in itertools.product(*wide.values())]

    def seconds(values):  # best at 320 threads and four rows: the model is wrong
        return 1e-3 * (1 + abs(int(values["BLOCK"]) - 320) / 320 + abs(int(values["ROWS"]) - 4))

    tried = sweep(Sampler(wide, space, 24, model), seconds, 24)
    assert len({tuple(v.items()) for v in tried}) == 24
    led, learnt = tried[:12], tried[12:]
    assert {v["BLOCK"] for v in led} == {"1024", "992", "960"}
    assert min(map(seconds, learnt)) < min(map(seconds, led))
    assert tried == sweep(Sampler(wide, space, 24, model), seconds, 24)


def test_only_what_fits_is_asked_for():
    fitting = [v for v in SPACE if v["BLOCK"] != "512" and v["TYPE"] != "float4"]
    sampler = Sampler(TUNES, fitting, 6, model)
    tried = sweep(sampler, lambda values: 1.0, len(fitting))
    assert all(values in fitting for values in tried)
    assert sampler.next() is None


def test_what_was_tried_before_is_not_tried_again():
    sampler = Sampler(TUNES, SPACE, len(SPACE), model)
    sampler.remember(SPACE[-1], sample(1.0))
    sampler.remember(SPACE[-2], None, sample(2.0))
    sampler.remember(SPACE[-3], None)
    tried = sweep(sampler, lambda values: 1.0, len(SPACE) - 3)
    assert sampler.next() is None
    assert not any(values in tried for values in SPACE[-3:])


def test_the_first_timing_gives_up_what_cannot_win():
    sampler = Sampler(TUNES, SPACE, 4, model)
    sampler.next()
    assert not sampler.hopeless(sample(9.0))  # nothing to lose against
    sampler.tell(sample(1.0))
    sampler.next()
    assert sampler.hopeless(sample(1.1))
    sampler.tell(None, sample(1.1))
    sampler.next()
    assert not sampler.hopeless(sample(1.015))  # the intervals overlap
    sampler.tell(sample(0.9))
    sampler.next()
    assert sampler.hopeless(sample(0.95))
    sampler.tell(None)


def test_remembered_times_give_up_what_cannot_win():
    sampler = Sampler(TUNES, SPACE, 4, model)
    sampler.remember(SPACE[0], sample(1.0))
    sampler.next()
    assert sampler.hopeless(sample(1.1))
