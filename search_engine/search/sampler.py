"""Which configuration of a kernel to try next. The only file that talks to Optuna.

The cheap cost model's favourites come first, then Optuna's tree-structured Parzen estimator
(Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011) goes on from
their times. A space that fits into the budget is tried whole, in the model's order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search_engine.contract.tune import Values
from search_engine.verdict import Sample

SEED = 0  # a sweep of the same times is the same sweep
_REDRAWS = 16  # proposals of what was tried already, until the model's order decides

Rank = Callable[[Values], float]  # modelled seconds of a configuration


class _CannotWin(optuna.pruners.BasePruner):
    """Prunes a trial whose first timing lies above the best one's, spreads included."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """The fast end of the first timing against the slow end of the best."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = min((t.user_attrs["high"] for t in done), default=float("inf"))
        return trial.last_step is not None and trial.intermediate_values[trial.last_step] > best


class Sampler:
    """Chooses among ``space``, the configurations of ``tunes`` that fit on the device.

    ``budget`` is the number of configurations that will be tried in all. Configurations that
    were tried before the search was interrupted are told with ``remember``. One that was
    asked for and never told counts as tried.
    """

    def __init__(
        self, tunes: Mapping[str, Sequence[str]], space: Sequence[Values], budget: int, rank: Rank
    ) -> None:
        self._tunes, self._space, self._rank = tunes, space, rank
        # All of them in the model's order, where all can be tried; else half of the budget.
        self._led = budget if len(space) <= budget else (budget + 1) // 2
        self._distributions = {name: _distribution(values) for name, values in tunes.items()}
        self._tried: set[tuple[str, ...]] = set()
        self._trial: optuna.Trial | None = None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            # `multivariate` was experimental before Optuna 5; block and tile sizes depend on
            # each other.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=SEED, multivariate=True, n_startup_trials=min(self._led, 10)
            )
        self._study = optuna.create_study(
            direction="minimize", sampler=sampler, pruner=_CannotWin()
        )

    def remember(self, values: Values, time: Sample | None, glance: Sample | None = None) -> None:
        """A configuration tried before; without a time it was rejected, or given up early."""
        self._tried.add(self._key(values))
        make = partial(
            optuna.trial.create_trial,
            params=self._params(values),
            distributions=self._distributions,
        )
        if time is not None:
            trial = make(value=time.median, user_attrs={"high": time.high})
        elif glance is not None:
            seen = {0: glance.low}
            trial = make(state=TrialState.PRUNED, intermediate_values=seen, value=glance.median)
        else:
            trial = make(state=TrialState.FAIL)
        self._study.add_trial(trial)

    def next(self) -> Values | None:
        """The configuration to try now, None where all were tried."""
        left = self.ahead(len(self._space))
        if not left:
            return None
        if len(self._tried) >= self._led:
            for _ in range(_REDRAWS):
                trial = self._study.ask(self._distributions)
                values = self._values(trial.params)
                if any(values == one for one in left):
                    return self._begin(trial, values)
                self._study.tell(trial, state=TrialState.FAIL)
        self._study.enqueue_trial(self._params(left[0]))
        return self._begin(self._study.ask(self._distributions), left[0])

    def ahead(self, count: int) -> list[Values]:
        """The configurations not tried yet that the model likes best, at most ``count``."""
        left = [values for values in self._space if self._key(values) not in self._tried]
        return sorted(left, key=self._rank)[:count]

    def hopeless(self, glance: Sample) -> bool:
        """Whether the first timing of the configuration at hand says that it cannot win."""
        assert self._trial is not None
        self._trial.report(glance.low, step=0)
        return self._trial.should_prune()

    def tell(self, time: Sample | None, glance: Sample | None = None) -> None:
        """What came of the configuration at hand; no time: rejected, or given up early."""
        assert self._trial is not None
        trial, self._trial = self._trial, None
        if time is not None:
            trial.set_user_attr("high", time.high)
            self._study.tell(trial, time.median)
        else:
            state = TrialState.FAIL if glance is None else TrialState.PRUNED
            self._study.tell(trial, state=state)

    def _begin(self, trial: optuna.Trial, values: Values) -> Values:
        self._trial = trial
        self._tried.add(self._key(values))
        return values

    def _key(self, values: Values) -> tuple[str, ...]:
        return tuple(values[name] for name in self._tunes)

    def _params(self, values: Values) -> dict[str, int | str]:
        """Ordered values by their place, others as they are."""
        return {
            name: self._tunes[name].index(value)
            if isinstance(self._distributions[name], IntDistribution)
            else value
            for name, value in values.items()
        }

    def _values(self, params: Mapping[str, int | str]) -> Values:
        return {
            name: self._tunes[name][value] if isinstance(value, int) else value
            for name, value in ((name, params[name]) for name in self._tunes)
        }


def _distribution(values: Sequence[str]) -> BaseDistribution:
    """Numbers in order are places on a line: what is good at 256 says something of 512."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return CategoricalDistribution(list(values))
    if numbers in (sorted(numbers), sorted(numbers, reverse=True)):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(list(values))
