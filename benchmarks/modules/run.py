"""Search for kernels for forty files of ``tests/modules`` at real sizes, and print the table.

    python benchmarks/modules/run.py [--only conv] [--from level2] [--minutes 9] [--out DIR]

``--only`` chooses among all files, by parts of their names; without it one or two of every
family are searched for.

Needs an NVIDIA GPU for times; with ``--device cpu --sizes reduced`` the same searches run on
the cpu device, and there are verdicts alone. Every figure is from the run's own session, in
which kernel, eager and torch.compile take turns. ``table.md`` and ``rows.json`` in DIR hold
what was found so far after every module, those of earlier calls with the same DIR included.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import runpy
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import asdict, frozen

from search_engine.search import process
from search_engine.settings import SearchSettings
from search_engine.store.records import Run
from search_engine.store.store import Store
from search_engine.task import CaptureRequest
from search_engine.verdict import Measurement

MODULES = Path(__file__).resolve().parents[2] / "tests" / "modules"
EXPECTED: dict[str, str | None] = runpy.run_path(str(MODULES / "expected.py"))["EXPECTED"]

FORTY = (
    "level1_argmax_over_dim", "level1_attention", "level1_avg_pool1d", "level1_avg_pool3d",
    "level1_batched_matmul", "level1_conv1d_dilated", "level1_conv2d", "level1_conv2d_depthwise",
    "level1_conv2d_grouped", "level1_conv2d_pointwise", "level1_cosine_loss",
    "level1_cross_entropy", "level1_cumsum", "level1_diagonal_matmul", "level1_exclusive_cumsum",
    "level1_frobenius_norm", "level1_gelu_by_hand", "level1_group_norm", "level1_huber_loss",
    "level1_kl_divergence", "level1_l2_norm", "level1_layer_norm", "level1_log_softmax",
    "level1_lower_triangular_matmul", "level1_matrix_vector", "level1_max_pool2d",
    "level1_mean_over_dim", "level1_rms_norm", "level1_softmax", "level1_square_matmul",
    "level1_topk", "level2_causal_softmax", "level2_conv_batch_norm_hardswish",
    "level2_conv_relu_max_pool", "level2_gemm_scale_residual_clamp_logsumexp_mish",
    "level2_linear_gelu_residual", "level2_linear_group_norm_leaky_relu",
    "level2_residual_rms_norm", "level2_squeeze_excite", "level2_swiglu",
)  # fmt: skip


@frozen
class Row:
    """What a search on one module came to. Times in seconds, medians; None where there is none."""

    module: str
    device: str
    sizes: str
    verified: int
    kernels: int
    as_predicted: bool
    offered: bool
    message: str  # the sentence that the run ended with
    spent: float
    limit: float | None = None
    eager: float | None = None
    compiled: float | None = None  # torch.compile's fastest mode
    kernel: float | None = None
    spread: float | None = None  # half the 95% interval of the kernel's median, as a share of it
    idea: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """A later run of the same replaces it (a search that failed early knows no device)."""
        return self.module, self.sizes


def searched(name: str, sizes: str, settings: SearchSettings, store_path: Path) -> Row:
    """Search on one module and sum up. A search that fails is a row with its reason."""
    path = MODULES / f"{name}.py"
    request = CaptureRequest(path=str(path), text=path.read_text(encoding="utf-8"))
    started = time.monotonic()
    with Store(store_path) as store:
        run_id, _ = store.start_run(request, "Model", sizes, settings)
    process.main(run_id, store_path)
    with Store(store_path) as store:
        run = store.run(run_id)
    return summed_up(name, sizes, run, time.monotonic() - started)


def summed_up(name: str, sizes: str, run: Run, spent: float) -> Row:
    """The row of a finished run. Raises AssertionError where an offer breaks our word."""
    best = run.winner or run.best
    measured = None if best is None else best.measurement
    offered = run.delivery is not None
    if offered and measured is not None:
        assert is_faster(measured), f"{name} is offered and not faster than its rivals: {measured}"
    reason = EXPECTED[name]
    verified = len(run.accepted_kernels)
    as_predicted = verified > 0 if reason is None else reason in run.message
    idea = ""
    if best is not None:
        idea = next(record.idea.title for record in run.ideas if record.id == best.idea_id)
    timed = measured or run.baseline
    compiled = [] if timed is None else [sample.median for sample in timed.compiled.values()]
    device = timed.device if timed is not None else run.settings.device
    kernel = None if measured is None else measured.kernel
    return Row(
        module=name,
        device=device,
        sizes=sizes,
        verified=verified,
        kernels=len(run.kernels),
        as_predicted=as_predicted,
        offered=offered,
        message=run.message,
        spent=round(spent, 1),
        limit=None if run.task is None else run.task.limit_seconds,
        eager=None if timed is None else timed.eager.median,
        compiled=min(compiled, default=None),
        kernel=None if kernel is None else kernel.median,
        spread=None if kernel is None else (kernel.high - kernel.low) / 2 / kernel.median,
        idea=idea,
    )


def is_faster(measured: Measurement) -> bool:
    """Whether the kernel beats eager and torch.compile: what an offer on a GPU promises."""
    rivals = [measured.eager, *measured.compiled.values()]
    return all(measured.kernel.median < rival.median for rival in rivals)


# --- the table ----------------------------------------------------------------------------


def milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.4g}"


def times_over(slow: float | None, fast: float | None) -> str:
    return "–" if slow is None or fast is None else f"×{slow / fast:.2f}"


def line(row: Row) -> str:
    """One line of the table."""
    share = "–"
    if row.limit is not None and row.kernel is not None:
        share = f"{row.limit / row.kernel:.0%}"
    kernel = milliseconds(row.kernel)
    if row.spread is not None:
        kernel += f" ±{row.spread:.1%}"
    outcome = "offered" if row.offered and row.kernel is not None else row.message
    if not row.as_predicted:
        outcome = f"**not as predicted**: {outcome}"
    verdict = f"{row.verified} of {row.kernels} verified" if row.kernels else "no kernel"
    cells = [
        row.module, verdict, milliseconds(row.eager), milliseconds(row.compiled), kernel,
        milliseconds(row.limit), share, times_over(row.compiled, row.kernel),
        times_over(row.eager, row.kernel), outcome.replace("|", "\\|"), f"{row.spent:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| module | verdict | eager | torch.compile | kernel | limit | of the limit "
    "| over torch.compile | over eager | outcome | s |\n|" + "---|" * 11
)


def table(rows: Sequence[Row]) -> str:
    """All rows as Markdown, with a line that counts them."""
    offered = sum(row.offered for row in rows)
    verified = sum(row.verified > 0 for row in rows)
    predicted = sum(row.as_predicted for row in rows)
    summary = (
        f"{len(rows)} modules, {verified} with a verified kernel, {offered} offered, {predicted} "
        f"as predicted, {sum(row.spent for row in rows):.0f} s. Times in milliseconds, medians; "
        "torch.compile in its fastest mode."
    )
    return "\n".join([HEAD, *map(line, rows), "", summary, ""])


# --- rows on disk -------------------------------------------------------------------------


def stored(path: Path) -> dict[tuple[str, str], Row]:
    """The rows that earlier calls left."""
    if not path.exists():
        return {}
    rows = [Row(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
    return {row.key: row for row in rows}


def write(folder: Path, rows: Iterable[Row]) -> None:
    """Both files, each replaced whole: the time limit of a machine may strike at any moment."""
    ordered = sorted(rows, key=lambda row: row.key)
    text = json.dumps([asdict(row) for row in ordered], indent=1, ensure_ascii=False)
    for name, content in (("rows.json", text + "\n"), ("table.md", table(ordered))):
        fresh = folder / f"{name}.new"
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(folder / name)


def chosen(only: Sequence[str], first: str) -> list[str]:
    """Names of modules in order, from ``first`` on: the forty, or those that ``only`` names."""
    names = [n for n in sorted(EXPECTED) if any(part in n for part in only)] if only else FORTY
    return [name for name in names if name >= first]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--from", dest="first", default="", help="names from this one on")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no module after this")
    parser.add_argument("--out", type=Path, default=Path("modules-out"), help="where rows go")
    parser.add_argument("--sizes", choices=("real", "reduced"), default="real")
    parser.add_argument("--device", default="auto", help="as in `kernel-lsp optimize`")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ideas", type=int, default=3)
    parser.add_argument("--branches", type=int, default=2)
    parser.add_argument("--each", type=float, default=2.0, help="minutes of one search at most")
    options = parser.parse_args()

    logging.getLogger("search_engine").setLevel(logging.ERROR)  # reasons are in the rows
    # Before the fork server starts: the children that import the modules inherit it.
    os.environ["MODULE_SIZES"] = options.sizes
    settings = SearchSettings(
        device=options.device,
        rounds=options.rounds,
        ideas=options.ideas,
        branches=options.branches,
        minutes=options.each,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    rows = stored(options.out / "rows.json")
    names = chosen(options.only, options.first)
    if not names:
        parser.error("no module has such a name")
    started = time.monotonic()
    # A store of its own: a call that was cut off leaves a run that would be taken up again.
    store_path = options.out / f"runs-{time.strftime('%m%d-%H%M%S')}.db"
    missed = []
    for position, name in enumerate(names):
        if time.monotonic() - started > options.minutes * 60:
            print(f"{options.minutes:g} minutes are over; go on with --from {name}", flush=True)
            break
        row = searched(name, options.sizes, settings, store_path)
        rows[row.key] = row
        write(options.out, rows.values())
        print(f"{position + 1}/{len(names)} {line(row)}", flush=True)
        if not row.as_predicted:
            missed.append(name)
    print(f"\n{table(sorted(rows.values(), key=lambda row: row.key))}")
    if missed:
        print(f"Not as predicted: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
