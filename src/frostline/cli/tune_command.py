"""The command `frostline tune`: search for the best configuration, on a ladder by name, by hand or by an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from frostline.audit.audited_search import AuditedSearch, alignment_of_audit, search_of_audit, small_audit
from frostline.audit.console_tables import ladder_comparison_table
from frostline.audit.rung_watch import AgreementWatch
from frostline.cli import display
from frostline.cli.arguments import (
    CacheOption,
    ClimbFactory,
    DefaultsOption,
    DeviceOption,
    EngineOption,
    GridPointsOption,
    LadderOption,
    MemoryOption,
    PrecisionOption,
    RungsOption,
    RunsOption,
    SamplerOption,
    SearchOption,
    SeedOption,
    SetOption,
    SpaceOption,
    StorageOption,
    TaskArgument,
    ladder_named,
    ladder_table,
    own_configuration,
    reference_of,
    sampling_named,
    search_named,
    with_space,
)
from frostline.cli.audit_command import run_audit
from frostline.errors import OptionError
from frostline.run.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.result import TuneResult
from frostline.run.sentences import cost_lines, train_command
from frostline.run.tuning import TaskSearch, search_task, train_task
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.halving import CONFIGURATIONS, AsynchronousHalving, SuccessiveHalving
from frostline.search.hyperband import Hyperband
from frostline.search.realigned import RealignedSearch, reading_sentences
from frostline.search.sweep import FullFidelity, Sweep
from frostline.search.watched import WatchedHalving
from frostline.store.reading import READINGS_NOTE, write_note
from frostline.store.storage import DEFAULT_STORAGE, MEMORY, without_password
from frostline.store.terms import TaskReference
from frostline.tasks.loading import task_named

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Direction, Evaluation, Job, Value
    from frostline.search.history import History
    from frostline.search.interface import Climb
    from frostline.search.ladder import Ladder
    from frostline.search.sampling import Sampling

_AUDIT = "audit:"
_AUTO = "auto"
_OFF = "off"
_REDUCTION_FACTOR = 3
_HORIZON = "rung"


def tune_command(
    task: TaskArgument,
    options: SetOption = None,
    study: Annotated[str | None, typer.Option("--study", help="The study's name. Default: the task's.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    space: SpaceOption = None,
    ladder: LadderOption = "diagonal",
    rungs: RungsOption = 3,
    configurations: Annotated[
        int | None,
        typer.Option(
            "--configurations",
            "-n",
            help="The total number of configurations, over all runs of the study. Default: 27, beside those of an audit.",
        ),
    ] = None,
    search: SearchOption = "halving",
    reduction_factor: Annotated[
        int | None,
        typer.Option(
            "--reduction-factor",
            help="One in so many configurations is promoted. Default: 3, or what an audit recommends.",
        ),
    ] = None,
    sampler: SamplerOption = "random",
    grid_points: GridPointsOption = 3,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    horizon: Annotated[
        str | None,
        typer.Option(
            "--horizon",
            help="rung: the schedule ends with each rung; full: it is cut short. Default: rung, or the audit's.",
        ),
    ] = None,
    engine: EngineOption = "auto",
    memory: MemoryOption = "auto",
    prefix_cache: CacheOption = "auto",
    runs: RunsOption = Path("frostline-runs"),
    defaults: DefaultsOption = True,
    align: Annotated[
        str,
        typer.Option(
            "--align",
            help="off; auto: learn on the way how rungs of few layers are to be read; audit:STUDY: have them train what an "
            "audit found; or factors for that, such as '1:learning_rate=10;2:learning_rate=3'.",
        ),
    ] = _OFF,
    compare: Annotated[
        bool, typer.Option("--compare", help="Afterwards train the task's own configuration in full and compare.")
    ] = False,
) -> None:
    """Search for the best configuration. Stop at any time: the same command goes on where it was."""
    loaded = with_space(task_named(task, options), space)
    console = Console()
    place = _Place(
        name=study or loaded.name,
        storage=storage,
        seed=seed,
        reference=reference_of(task, options, precision),
        options=TrainingOptions(
            device=device,
            precision=precision,
            horizon=horizon or _HORIZON,
            engine=engine,
            memory=memory,
            prefix_cache=prefix_cache,
            runs=runs,
        ),
    )
    own = own_configuration(loaded) if defaults and sampler != "grid" else ()
    asked = _Asked(
        search=search, configurations=configurations, reduction_factor=reduction_factor, horizon=horizon
    )
    audited = None
    if ladder == _AUTO or ladder.startswith(_AUDIT):
        audited = _audited(console, loaded, ladder, place, asked, own)
        climb = asked.on_audit(audited, skips=ladder == _AUTO)
        place = replace(place, options=replace(place.options, horizon=audited.horizon))
    else:
        climb = asked.on(ladder_named(ladder, rungs, loaded), initial=own)
    climb = _aligned(loaded, climb, align, place)
    typer.echo(ladder_table(climb.ladder, climb.plan, loaded.sample_unit))
    typer.echo(f"study {place.name!r} in {without_password(storage)}\n")
    sampling = sampling_named(sampler, loaded.space, grid_points)
    result = _climb(console, loaded, climb, place, sampling)
    _show_result(console, result, loaded.sample_unit)
    if isinstance(climb.plan, RealignedSearch):
        _show_readings(climb.plan, result)
    if audited is not None:
        _show_audits_best(audited, result)
    if compare:
        _compare(loaded, result, device=device, precision=precision, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a search lies and how its trainings run."""

    name: str
    storage: str
    seed: int
    reference: TaskReference
    options: TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Climb:
    """What is searched, on which ladder, and what is known before."""

    ladder: Ladder
    plan: Climb
    initial: Sequence[Mapping[str, Value]]
    known: Callable[[Job], Evaluation | None] | None = None
    least_agreement: tuple[float, ...] | None = None
    alignment: Alignment = IDENTITY

    def watch(self) -> AgreementWatch | None:
        """Return what watches whether rungs agree, None for searches that eliminate nobody by them."""
        if isinstance(self.plan, Sweep | FullFidelity):
            return None
        return AgreementWatch(expected=self.plan.evaluations_per_rung(), least=self.least_agreement)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the user said of the search; None: nothing."""

    search: str
    configurations: int | None
    reduction_factor: int | None
    horizon: str | None

    def on(self, ladder: Ladder, *, initial: Sequence[Mapping[str, Value]]) -> _Climb:
        """Return the search on a ladder that is taken as it is."""
        factory = search_named(self.search, self.reduction_factor or _REDUCTION_FACTOR)
        plan = factory(ladder=ladder, configurations=self.configurations or CONFIGURATIONS)
        return _Climb(ladder=ladder, plan=plan, initial=initial)

    def on_audit(self, audited: AuditedSearch, *, skips: bool) -> _Climb:
        """Return the search on the ladder of an audit; ``skips``: it may skip a rung that turns out not to rank."""
        if self.horizon not in (None, audited.horizon):
            raise OptionError(
                f"--horizon is {self.horizon}, but the audit measured its ladder under {audited.horizon}: leave it out, or "
                f"audit with --horizon {self.horizon}."
            )
        plan = self._factory(audited, skips=skips)(ladder=audited.ladder, configurations=audited.configurations)
        # What is assumed of survivors holds for the halving that the audit was replayed with.
        as_assumed = isinstance(plan, SuccessiveHalving | WatchedHalving) and self.reduction_factor is None
        return _Climb(
            ladder=audited.ladder,
            plan=plan,
            initial=audited.initial,
            known=audited.known,
            least_agreement=audited.least_agreement if as_assumed else None,
            alignment=audited.alignment,
        )

    def _factory(self, audited: AuditedSearch, *, skips: bool) -> ClimbFactory:
        factor = self.reduction_factor or audited.recommendation.chosen.reduction_factor
        if self.search == "halving" and skips and self.reduction_factor is None:
            return audited.watched
        # Hyperband and asynchronous halving have their own idea of how many to promote.
        return search_named(
            self.search, factor if self.search == "halving" else self.reduction_factor or _REDUCTION_FACTOR
        )


def _audited(
    console: Console, task: Task, ladder: str, place: _Place, asked: _Asked, own: Sequence[Mapping[str, Value]]
) -> AuditedSearch:
    """Return the search that an audit recommends, after a small one if there is none yet."""
    study = ladder.removeprefix(_AUDIT)
    if ladder == _AUTO:
        if place.storage == MEMORY:
            raise OptionError(
                f"--ladder {_AUTO} reads its audit from the storage: give another one than {MEMORY}."
            )
        study = f"{place.name} audit"
        typer.echo(f"a small audit first, in study {study!r}:")
        plan = small_audit(task)
        run_audit(
            console,
            task,
            plan if asked.horizon is None else replace(plan, horizon=asked.horizon),
            study=study,
            storage=place.storage,
            training=TaskSearch(options=place.options, reference=place.reference),
            search=SearchPlan(initial=own, seed=place.seed),
        )
    audited = search_of_audit(
        task,
        storage=place.storage,
        study=study,
        options=place.options,
        seed=place.seed,
        configurations=asked.configurations,
    )
    chosen = audited.recommendation.chosen
    typer.echo(
        f"ladders for {chosen.configurations} configurations, by the audit {study!r}; cost in full trainings, chance of "
        f"ending within {audited.recommendation.tolerance:.3g} of the best:"
    )
    console.print(ladder_comparison_table(audited.recommendation))
    if audited.num_known:
        typer.echo(
            f"{audited.num_known} of the configurations are the audit's: their evaluations are not made again."
        )
    typer.echo("")
    return audited


def _aligned(task: Task, climb: _Climb, align: str, place: _Place) -> _Climb:
    """Return the search under the alignment that was asked for, and say what it changes."""
    if not climb.alignment.is_identity and align != _OFF:
        raise OptionError(
            f"--align is {align}, but the audit measured its ladder under {climb.alignment}: leave it out, or give the "
            f"ladder of another audit."
        )
    if align == _AUTO:
        if not isinstance(climb.plan, SuccessiveHalving | Hyperband | AsynchronousHalving):
            raise OptionError(
                f"--align {_AUTO} goes with --search halving, hyperband or asynchronous, and with any ladder but {_AUTO}: "
                f"leave it out."
            )
        waits = not isinstance(climb.plan, AsynchronousHalving)
        plan = RealignedSearch(search=climb.plan, space=task.space, waits=waits)
        return replace(climb, plan=plan, least_agreement=None)
    alignment = climb.alignment
    if align.startswith(_AUDIT):
        study = align.removeprefix(_AUDIT)
        alignment = alignment_of_audit(task, climb.ladder, storage=place.storage, study=study)
        if alignment.is_identity:
            typer.echo(
                f"the audit {study!r} gives no sure shift: all rungs train the configurations as they are.\n"
            )
    elif align != _OFF:
        alignment = Alignment.parse(align)
    alignment.check(task.space, num_layers=climb.ladder.num_layers)
    if alignment.draws:
        raise OptionError(
            f"--align {alignment} draws factors for each configuration, which is for `frostline audit`: give one for "
            f"all, or {_AUDIT}STUDY."
        )
    for layers, factors in alignment.factors.items():
        changed = ", ".join(f"{name} × {factor:.3g}" for name, factor in factors.items())
        typer.echo(f"aligned: with {layers} of {climb.ladder.num_layers} layers trained, {changed}")
    # What an audit leads to expect of its rungs is not what they do under another alignment.
    as_measured = alignment == climb.alignment
    return replace(climb, alignment=alignment, least_agreement=climb.least_agreement if as_measured else None)


def _climb(console: Console, task: Task, climb: _Climb, place: _Place, sampling: Sampling) -> TuneResult:
    shown = _WatchedDisplay(
        console,
        rungs=climb.ladder.rungs,
        expected=climb.plan.evaluations_per_rung(),
        sample_unit=task.sample_unit,
    )
    shown.watch = climb.watch()
    with shown:
        return search_task(
            task,
            climb.plan,
            study=place.name,
            plan=SearchPlan(sampling=sampling, initial=climb.initial, seed=place.seed),
            training=TaskSearch(
                options=place.options,
                alignment=climb.alignment,
                known=climb.known,
                reference=place.reference,
            ),
            storage=place.storage,
            observer=shown,
        )


class _WatchedDisplay(display.SearchDisplay):
    """Says beside the search itself where its rungs disagree."""

    watch: AgreementWatch | None = None

    def ended(self, evaluation: Evaluation, history: History) -> None:
        super().ended(evaluation, history)
        for sentence in [] if self.watch is None else self.watch.news(history):
            self.say(sentence)


def _show_readings(search: RealignedSearch, result: TuneResult) -> None:
    """Say how rungs of few layers were read, and leave it in the study for its report."""
    readings = search.readings(result.history)
    sentences = reading_sentences(readings, search.ladder)
    if not sentences:
        sentences = ["no rung of few layers promotes enough configurations to learn how it is to be read."]
    typer.echo("")
    for sentence in sentences:
        typer.echo(sentence)
    if result.storage != MEMORY:
        write_note(result.storage, result.study, READINGS_NOTE, sentences)


def _show_audits_best(audited: AuditedSearch, result: TuneResult) -> None:
    """Say so if the audit itself, which trained all of its configurations in full, has a better one."""
    best, configuration = audited.best, audited.best_configuration
    if best is None or best.score is None or configuration is None:
        return
    if _is_better(best.score, result.score, result.terms.direction):
        typer.echo(
            f"\nThe audit has a better one, which this ladder lost: score {best.score:.5g} at full fidelity."
        )
        typer.echo(f"train it in full: {train_command(result.terms, configuration)}")


def _compare(task: Task, result: TuneResult, *, device: str, precision: str, seed: int) -> None:
    own, _ = train_task(
        task, task.defaults, seed=seed, options=TrainingOptions(device=device, precision=precision)
    )
    typer.echo(f"\nthe best configuration found, trained in full:  {display.outcome(result.best)}")
    typer.echo(f"the task's own configuration, trained in full: {display.outcome(own)}")
    if own.score is not None and _is_better(own.score, result.score, task.direction):
        typer.echo(
            "The task's own is better: the lower rungs of this ladder mislead here. `frostline audit` measures which do not."
        )


def _is_better(score: float, other: float, direction: Direction) -> bool:
    return score < other if direction == "minimize" else score > other


def _show_result(console: Console, result: TuneResult, sample_unit: str) -> None:
    typer.echo(f"\nbest: configuration {result.best.number}, score {result.score:.5g} at full fidelity")
    console.print(display.configuration_table(result.configuration))
    typer.echo("")
    console.print(display.rung_table(result.summary, sample_unit))
    typer.echo("")
    for line in cost_lines(result.summary):
        typer.echo(line)
    place = without_password(result.storage)
    if result.storage != MEMORY:
        typer.echo(f"\nthe study: {result.study!r} in {place}; look at it with `optuna-dashboard {place}`")
    typer.echo(f"train the best in full: {train_command(result.terms, result.configuration)}")
