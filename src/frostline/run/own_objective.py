"""The door for people with a training script of their own: an objective in Optuna's manner."""

from __future__ import annotations

import inspect
import logging
import operator
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from optuna.samplers import CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection

from frostline.errors import ObjectiveError, OptionError
from frostline.folders.places import checked_folder
from frostline.folders.study_place import StudyPlace
from frostline.objectives.given_arguments import arguments_of, other_arguments
from frostline.objectives.look import look
from frostline.objectives.training import ObjectiveTraining, function_of, name_of
from frostline.process import old_objects_passed_over
from frostline.run.execution.affordable import within_budget
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import DEFAULT_RUNS
from frostline.run.execution.workload import check_factory
from frostline.run.given_ladder import GivenLadder, checked_ladder, ladder_by
from frostline.run.loop import Observer
from frostline.run.plan import PlanFields, SearchPlan, check_options
from frostline.run.tuning import search_training
from frostline.run.view.search_view import observing
from frostline.search.proposals.sampling import CMA_ES, GP, QMC, RANDOM, TPE
from frostline.store.backends.storage import DEFAULT_STORAGE, Storage, checked_place
from frostline.store.begun import begun_against, begun_ladder, terms_in
from frostline.store.reading import check_study_name

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from frostline.objectives.look import Objective
    from frostline.records import Direction
    from frostline.run.execution.workload import ExecutorFactory
    from frostline.run.outcome.result import TuneResult
    from frostline.search.proposals.sampling import Sampling
    from frostline.store.terms import Terms

logger = logging.getLogger(__name__)

_SAMPLINGS: dict[type[BaseSampler], Sampling] = {
    RandomSampler: RANDOM,
    QMCSampler: QMC,
    TPESampler: TPE,
    GPSampler: GP,
    CmaEsSampler: CMA_ES,
}


class SearchOptions(PlanFields, total=False):
    """What may be said of the search of an objective."""

    ladder: GivenLadder


class TuneOptions(SearchOptions, total=False):
    """What else ``tune`` takes: for those that make an objective, and pass on what their users say."""

    unit: str
    study: str | Study | None
    storage: Path | str
    runs: Path | str
    executor: ExecutorFactory
    observer: Observer | None


def tune(
    objective: Objective,
    *,
    samples: int,
    unit: str = "samples",
    study: str | Study | None = None,
    storage: Path | str = DEFAULT_STORAGE,
    runs: Path | str = DEFAULT_RUNS,
    executor: ExecutorFactory = local_executor,
    observer: Observer | None = None,
    **options: Unpack[SearchOptions],
) -> TuneResult:
    """Search for the best hyperparameters of ``objective``, and return them.

    ``objective(trial)`` asks a ``Trial`` for hyperparameters, freezes its model by it, trains on its batches, and returns
    the validation score. It is called once up to its first step, which shows its search space and its layers; then
    once for every configuration and rung. A full training is one on ``samples`` samples (``unit`` is what they are)
    with all layers trained.

    What the search may cost and what it tries are the fields of ``SearchPlan``: ``budget`` (6 full trainings unless told
    otherwise), ``initial`` (the values that you use today, trained in full), ``direction`` ("minimize"), ``sampling``,
    ``seed``, ``configurations``, ``search``; and ``ladder``, another one than the usual: by its name ("samples-only"), by
    what makes it from the numbers of layers and samples (``Ladder.diagonal``), or itself. With ``against`` the score is
    weighed against what the model costs (``TuneResult.front``): "bytes" are counted, "seconds" and "flops" the objective
    returns beside the score, as in ``return score, seconds``.

    The study is kept in ``storage`` and continued if it is there; by default its name is that of the script and the
    function. An ``optuna.Study`` brings its own storage, sampler and direction. Checkpoints, and the weights of the best
    model (``TuneResult.load_model``), lie in ``runs``, a path or a URL such as "s3://bucket/folder". How it goes is shown on
    stderr, or in a notebook's cell, unless there is an ``observer``; ``frostline.SILENT`` shows nothing.

    Raises: ObjectiveError if the objective does not keep to what a trial asks of it; OptionError for an option that is none;
        StudyError if the study cannot be opened or is another one's; SearchFailedError if no configuration was evaluated in
        full; what the objective raises where it is called for the first time.
    """
    check_options(options, *TuneOptions.__annotations__)
    storage, samples = checked_place(storage), _checked_samples(samples)
    check_factory(executor)
    _check(objective)
    kept_in = checked_folder(runs)
    given_ladder = checked_ladder(options.pop("ladder", None))
    fields = cast("PlanFields", options)
    place: str | Storage = storage
    if isinstance(study, Study):
        fields = PlanFields(**{**_fields_of(study), **fields})
        place, study = Storage(f"the study {study.study_name!r}", study._storage), study.study_name
    plan = SearchPlan(**fields, sample_unit=unit)
    name = study or study_name_of(objective)
    check_study_name(name)
    with observing(observer, what=f"the search of {name}", storage=storage, sample_unit=unit) as watching:
        values = plan.first[0] if plan.first else None
        sketch = look(objective, samples=samples, values=values, root_seed=plan.seed)
        begun = terms_in(place, name)
        plan = replace(plan, against=begun_against(begun, plan.against))
        arguments = _begun_arguments(begun, objective, name)
        given = given_ladder or plan.usual_ladder
        ladder = ladder_by(given, num_layers=sketch.num_layers, full_samples=samples, unit=unit)
        if given_ladder is None:
            ladder = begun_ladder(begun, ladder)
        watching = within_budget(plan.search_on(ladder, sketch.space), watching)
        training = ObjectiveTraining(
            objective=objective,
            sketch=sketch,
            root_seed=plan.seed,
            full_samples=samples,
            place=StudyPlace(runs=kept_in, name=name),
            against=plan.against,
            progress=watching.progressed,
        )
        # After every training its model is collected, and now that of the look.
        with old_objects_passed_over():
            return search_training(
                training,
                sketch.space,
                ladder,
                study=name,
                plan=plan,
                storage=place,
                executor=executor,
                observer=watching,
                arguments=arguments,
            )


def study_name_of(objective: Objective) -> str:
    """Return the name of a study of ``objective`` if nobody says another: that of its script and its own."""
    own = name_of(objective).replace("<", "").replace(">", "")
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(function_of(objective))) or "")
    except TypeError:
        return own
    # A cell of a notebook has a file of its own, whose name is a number.
    return f"{path.stem}-{own}" if path.suffix == ".py" and "ipykernel" not in str(path) else own


def _begun_arguments(begun: Terms | None, objective: Objective, name: str) -> str:
    """Return what the study was begun with beside the trial, and say so if the objective was given something else now."""
    arguments = arguments_of(objective)
    if begun is None or begun.arguments is None:
        return arguments
    if others := other_arguments(begun.arguments, arguments):
        logger.warning(
            "the study %r was begun by an objective with another value of %s, whose scores it keeps and goes on with: give "
            "each a study of its own, study=...",
            name,
            ", ".join(others),
        )
    return begun.arguments


def _checked_samples(samples: Any) -> int:
    # NumPy's whole numbers are none of Python's.
    is_whole = isinstance(samples, Integral) and not isinstance(samples, bool)
    count = operator.index(samples) if is_whole else 0
    if count < 1:
        raise OptionError(f"samples is {samples!r}, but a full training takes a whole number of them, at least 1.")
    return count


def _check(objective: object) -> None:
    if not callable(objective) or isinstance(objective, type):
        raise ObjectiveError(f"the objective is {objective!r:.60}: give a function of a trial.")
    if inspect.isgeneratorfunction(objective):
        raise ObjectiveError(
            "the objective yields: report scores on the way by trial.report(score), and return the last one."
        )
    if inspect.iscoroutinefunction(objective):
        raise ObjectiveError(
            "the objective is an async function: give a plain one, which runs it by asyncio.run and returns its score."
        )
    try:
        inspect.signature(objective).bind(None)
    except TypeError as error:
        raise ObjectiveError(
            f"the objective is called with a trial alone, but it is one argument: {error}."
        ) from None
    except ValueError:
        # Some callables written in C tell nothing.
        pass


def _fields_of(study: Study) -> PlanFields:
    """Return what an Optuna study says of a search."""
    if len(study.directions) != 1:
        raise OptionError(
            f"the study {study.study_name!r} has {len(study.directions)} directions, but a search has one score: give a "
            f"study with one."
        )
    sampling = _SAMPLINGS.get(type(study.sampler))
    if sampling is None:
        raise OptionError(
            f"the study's sampler is a {type(study.sampler).__name__}, but must be one of "
            f"{', '.join(each.__name__ for each in _SAMPLINGS)}: give a study with one of these."
        )
    direction: Direction = "maximize" if study.direction is StudyDirection.MAXIMIZE else "minimize"
    return PlanFields(sampling=sampling, direction=direction)
