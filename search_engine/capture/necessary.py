"""How much of a run's work any honest kernel has to do. Free of torch.

A product that eager takes whole may be mostly needless: ``diag(a) @ b`` scales rows, of
``tril(a @ b)`` one half is kept, ``(a @ b).sum(1)`` is a product with a vector. A run is
followed as steps between numbered values, forwards for what is known of the operands'
entries and backwards for what is wanted of the results. Two shares come of it for each
product: what the limit counts, and what is certain enough to call a kernel impossible. And
for each value the share of its entries that has to be read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import evolve, frozen

# Results from which a sum of their inputs cannot be told: nothing is taken through them.
_NONLINEAR = frozenset({
    "relu", "gelu", "silu", "sigmoid", "tanh", "exp", "log", "log1p", "sqrt", "rsqrt", "abs",
    "clamp", "clamp_min", "clamp_max", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu",
    "elu", "softplus", "mish", "erf", "sin", "cos", "_softmax", "_log_softmax", "_safe_softmax",
    "amax", "amin", "max", "min", "argmax", "argmin", "logsumexp", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "maximum", "minimum", "threshold", "log_sigmoid_forward",
})  # fmt: skip
_SOFTMAX = frozenset({"_softmax", "_safe_softmax"})
# Results that may hold zeros or repeats where their inputs have none, by values or by place.
_SUSPECT = frozenset({
    "where", "masked_fill", "masked_scatter", "index", "index_select", "gather", "take",
    "embedding", "masked_select", "scatter", "scatter_add", "scatter_reduce", "index_put",
    "index_add", "block_diag",
    "slice_scatter", "select_scatter", "diagonal_scatter", "constant_pad_nd", "repeat", "kron",
    "cat", "stack", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not",
    "bitwise_and", "bitwise_or", "bitwise_not", "sign", "heaviside", "bernoulli", "dropout",
})  # fmt: skip
_SCALED = frozenset({"mul", "div", "neg", "clone", "_to_copy", "copy", "contiguous"})
TRIANGLES = frozenset({"tril", "triu"})


@frozen
class Form:
    """What is known of a value's entries whatever the numbers in them are."""

    kept: float = 1.0  # share that is not zero by construction
    finite: float = 1.0  # share that is not -inf by construction
    distinct: float = 1.0  # share of the entries that are no repeats or products of others
    triangle: bool = False  # square, one side of the diagonal zero
    plain: bool = True  # nothing of that kind is known or suspected
    linear: bool = False  # a product's result with nothing but linear operators since
    constant: bool = False  # made of no tensor of the task's

    @property
    def share(self) -> float:
        """Of the products with an operand of this form, those that count."""
        return min(self.kept, self.distinct)


@frozen
class Step:
    """One operator: the values that it reads and makes, by number.

    ``through`` is the share of the entries read that come out, where the others' forms
    say so. A product has ``flops`` in ``dtype`` as eager takes it; ``own`` and ``certain``
    are the shares of them that its operands leave.
    """

    name: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    view: bool = False
    masked: bool = False  # another operand's form is not plain
    through: float = 1.0
    flops: int = 0
    dtype: str = ""
    own: float = 1.0
    certain: float = 0.0
    same: tuple[object, ...] = ()  # products alike in this are one


def triangle_share(name: str, rows: int, columns: int, diagonal: int) -> float:
    """Of a matrix, what tril or triu keep."""
    if name == "triu":
        return 1.0 - triangle_share("tril", rows, columns, diagonal - 1)
    # Rows from -diagonal on have one element, then one more each until all columns are kept.
    first, full = max(0, -diagonal), max(0, min(rows, columns - diagonal))
    rising = max(0, min(rows, full) - first)
    start = first + diagonal + 1
    kept = rising * start + rising * (rising - 1) // 2 + max(0, rows - max(full, first)) * columns
    return kept / max(1, rows * columns)


def made(name: str) -> Form:
    """The form of what an operator makes of no tensor at all."""
    return Form(
        kept=0.0 if name in ("zeros", "new_zeros", "zeros_like") else 1.0,
        distinct=0.0,
        plain=False,
        constant=True,
    )


def form_of(
    name: str, reads: Sequence[tuple[int, Form]], count: int, *, view: bool = False
) -> Form:
    """The form of a result of ``count`` elements from (elements, form) of what it reads."""
    if not reads:
        return made(name)
    forms = [form for _, form in reads]
    size = max(number for number, _ in reads)
    first = forms[0]
    grown = min(1.0, sum(number for number, _ in reads) / max(1, count)) if count > size else 1.0
    if view:
        if count < size and not first.plain:  # which part of the structure is not followed
            return evolve(first, kept=0.0, finite=0.0, triangle=False)
        plain = first.plain and grown == 1.0
        return evolve(first, distinct=min(first.distinct, grown), plain=plain)
    plain = all(form.plain for form in forms) and grown == 1.0 and name not in _SUSPECT
    scaled, product = name in _SCALED, name == "mul"
    return Form(
        kept=min(f.kept for f in forms) if product else first.kept if scaled else (
            first.finite if name in _SOFTMAX else 1.0
        ),
        finite=min(f.finite for f in forms) if name in ("add", "div", "mul") else 1.0,
        distinct=min(grown, max(form.distinct for form in forms)),
        triangle=scaled and first.triangle,
        plain=plain,
        linear=name not in _NONLINEAR and any(form.linear for form in forms),
        constant=all(form.constant for form in forms),
    )  # fmt: skip


def operands_share(left: Form, right: Form, *, alike: bool) -> tuple[float, float]:
    """Shares of a product's flops that count and that are certain, by its operands' forms.

    ``alike``: both are the same numbers, so the result may be symmetric.
    """
    if left.kept < 1 and right.kept < 1:
        # Lower by lower: Σ (n - k)(k + 1) of n³ terms, a sixth. Others may cancel altogether.
        share = 2 / 3 * left.share * right.share if left.triangle and right.triangle else 0.0
    else:
        share = left.share * right.share
    if alike:
        share /= 2
    plain = left.plain and right.plain and not (left.linear or right.linear or alike)
    return share, 1.0 if plain else 0.0


@frozen
class Wanted:
    """Shares of a value's entries that are needed at least, and that certainly are."""

    kept: float = 0.0
    certain: float = 0.0

    def or_(self, other: Wanted) -> Wanted:
        """Where two steps want a value: the parts may be the same."""
        return Wanted(max(self.kept, other.kept), max(self.certain, other.certain))

    def scaled(self, share: float, *, certain: bool = True) -> Wanted:
        """That share of it."""
        return Wanted(self.kept * share, self.certain * share if certain else 0.0)


_ALL = Wanted(1.0, 1.0)


def necessary(
    steps: Sequence[Step], counts: Sequence[int], outputs: Collection[int]
) -> tuple[dict[str, float], dict[str, float], dict[tuple[int, bool], Wanted]]:
    """Flops of products by dtype: those that the limit counts, and the certain ones.

    ``counts`` are the values' numbers of elements. The last result is what is wanted of each
    value, by its number and whether it may be taken as a product's result.
    """
    # By value, and whether it is a product's result with linear operators alone between.
    wanted: dict[tuple[int, bool], Wanted] = {}
    for number in outputs:
        wanted[number, True] = wanted[number, False] = _ALL
    counted: dict[str, float] = {}
    certain: dict[str, float] = {}
    first: dict[tuple[object, ...], Step] = {}
    for step in steps:
        first.setdefault(step.same, step)
    for step in reversed(steps):
        if step.same and first[step.same] is not step:  # what wants the repeat wants the first
            for number, before in zip(step.makes, first[step.same].makes, strict=True):
                for linear in (True, False):
                    got = wanted.get((number, linear), Wanted())
                    key = (before, linear)
                    wanted[key] = wanted.get(key, Wanted()).or_(got)
            continue
        if step.flops:
            need = wanted.get((step.makes[0], True), Wanted())
            counted[step.dtype] = counted.get(step.dtype, 0) + step.flops * step.own * need.kept
            sure = step.flops * step.certain * need.certain
            certain[step.dtype] = certain.get(step.dtype, 0) + sure
        for number in set(step.reads):
            for linear in (True, False):
                got = _through(step, number, linear, wanted, counts)
                key = (number, linear)
                wanted[key] = wanted.get(key, Wanted()).or_(got)
    return counted, certain, wanted


def _through(
    step: Step,
    number: int,
    linear: bool,
    wanted: dict[tuple[int, bool], Wanted],
    counts: Sequence[int],
) -> Wanted:
    """What a step wants of a value that it reads, from what is wanted of its results."""
    after = linear and step.name not in _NONLINEAR
    results = [wanted.get((value, after), Wanted()) for value in step.makes]
    size, sizes = max(1, counts[number]), [counts[value] for value in step.makes]
    if step.view:  # parts of a split do not overlap
        kept = sum(r.kept * min(1.0, n / size) for r, n in zip(results, sizes, strict=True))
        sure = sum(r.certain * min(1.0, n / size) for r, n in zip(results, sizes, strict=True))
        return Wanted(min(1.0, kept), min(1.0, sure))
    result = Wanted()
    for other in results:
        result = result.or_(other)
    if step.flops:  # (a @ b) @ c may be taken in another order
        return result.scaled(1.0, certain=not linear)
    smaller = bool(sizes) and max(sizes) < size
    if step.name in _SUSPECT or step.name in TRIANGLES:
        share = max(sizes) / size if smaller else step.through
        return result.scaled(min(1.0, share), certain=False)
    if smaller and after:  # the sum of a product is the product of a sum
        return Wanted()
    return result.scaled(step.through, certain=not step.masked)
