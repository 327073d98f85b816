"""What a step costs at each fidelity: figure 2, left, for one large model, and figure 9 for several and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.costs.cost_monotonicity import cost_violations
from frostline.costs.measurement import FailedStep, measure_steps, num_layers_of
from frostline.costs.predicted.prediction import predict_step
from frostline.costs.shown.cost_figures import lines_figure, peak_figure
from frostline.costs.shown.cost_tables import full_costs
from frostline.costs.step_cost import StepCost
from frostline.errors import PredictionError, TaskError
from frostline.pages.parts import Section, figure_section
from frostline.research.reproduction.reproduced import Finding, Reproduced, Verdict, held
from frostline.research.reproduction.scales import Scale
from frostline.tasks.loading import load_task

if TYPE_CHECKING:
    from frostline.costs.shown.cost_tables import CostRow
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

_MEMORY_FACTOR = 3
_TIME_FACTOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCase:
    """Steps of one architecture whose costs are asked for: predicted, or measured with so many steps of each kind.

    ``layers`` is how many numbers of layers, spread evenly and with both ends; None: all.
    """

    name: str
    reference: str
    options: Mapping[str, Any]
    layers: int | None = None
    batch_sizes: tuple[int, ...] = (1,)
    warm_up: int = 0
    repetitions: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether steps are made."""
        return self.repetitions > 0

    def __str__(self) -> str:
        layers = "every number of layers" if self.layers is None else f"{self.layers} numbers of layers"
        sizes = ", ".join(map(str, self.batch_sizes))
        how = f"{self.warm_up} + {self.repetitions} steps each" if self.is_measured else "predicted"
        return f"{self.name}: {layers}, batch {sizes}, {how}"


def _gpt(model: str, **more: Any) -> CostCase:
    return CostCase(name=model, reference="random-tokens", options={"model": model}, **more)


def _image(model: str, size: int, **more: Any) -> CostCase:
    return CostCase(
        name=f"{model}, {size} pixels",
        reference="random-images",
        options={"model": model, "image_size": size},
        **more,
    )


_TIMED = {"warm_up": 1, "repetitions": 5}
_AS_THE_PAPER = {"warm_up": 100, "repetitions": 100}

FIGURE_2: Mapping[Scale, tuple[CostCase, ...]] = {
    Scale.TINY: (_gpt("Pythia-1.4B", layers=6), _gpt("14M", layers=5, **_TIMED)),
    Scale.SMALL: (_gpt("Pythia-1.4B"), _gpt("600M", layers=7, warm_up=1, repetitions=2), _gpt("14M", **_TIMED)),
    Scale.PAPER: (_gpt("Pythia-1.4B", **_AS_THE_PAPER),),
}

FIGURE_9: Mapping[Scale, tuple[CostCase, ...]] = {
    Scale.TINY: (
        _gpt("14M", layers=4, batch_sizes=(1, 4)),
        _image("resnet-18", 32, layers=5, batch_sizes=(8, 64), **_TIMED),
    ),
    Scale.SMALL: (
        _gpt("14M", batch_sizes=(1, 4), **_TIMED),
        _image("resnet-18", 32, batch_sizes=(8, 64, 128), **_TIMED),
        _image("resnet-50", 64, layers=6, batch_sizes=(8, 32), **_TIMED),
        _image("vit-b", 224, layers=5, batch_sizes=(1, 4), **_TIMED),
        _gpt("600M", layers=6, batch_sizes=(1, 8)),
    ),
    Scale.PAPER: (
        *(_gpt(model, batch_sizes=(1, 4, 8), **_AS_THE_PAPER) for model in ("14M", "600M")),
        *(
            _image(model, 224, batch_sizes=(16, 64, 128), **_AS_THE_PAPER)
            for model in ("resnet-18", "resnet-50", "resnet-152", "vit-b")
        ),
    ),
}


def figure_2_left(bench: Workbench) -> Reproduced:
    """Memory and time of a step of one large model at batch 1, for each fidelity."""
    costs, notes = _all_costs(bench, FIGURE_2[bench.scale])
    findings = []
    for name, rows in costs.items():
        ends = _ends(rows)
        if ends is None:
            continue
        lowest, full = ends
        memory = full.memory.peak / lowest.memory.peak
        verdict = held(memory >= _MEMORY_FACTOR) if name == "Pythia-1.4B" else Verdict.SHOWN
        paper = "at least 3 times less" if name == "Pythia-1.4B" else "another model"
        findings.append(
            Finding(f"{name}: memory at the lowest fidelity", paper, f"{memory:.1f} times less", verdict)
        )
        if lowest.seconds is not None and full.seconds is not None:
            time = full.seconds.whole.median / lowest.seconds.whole.median
            verdict = held(time >= _TIME_FACTOR) if name == "Pythia-1.4B" else Verdict.SHOWN
            paper = "at least 4 times faster" if name == "Pythia-1.4B" else "another model"
            ours = f"{time:.1f} times faster; by FLOPs {full.flops / lowest.flops:.1f}"
        else:
            verdict, paper = Verdict.UNCLEAR, "at least 4 times faster"
            ours = f"predicted, not timed; by FLOPs {full.flops / lowest.flops:.1f} times faster is what freezing allows"
        findings.append(Finding(f"{name}: time at the lowest fidelity", paper, ours, verdict))
    return _cost_figure(bench, "fig2-left", "Figure 2, left: memory and time of a step", costs, findings, notes)


def figure_9(bench: Workbench) -> Reproduced:
    """Memory and time of a step for each fidelity and batch size, of several architectures."""
    costs, notes = _all_costs(bench, FIGURE_9[bench.scale])
    findings = []
    for name, rows in costs.items():
        known = [row for row in rows if isinstance(row, StepCost)]
        violations = cost_violations(known)
        parts = []
        for size in sorted({row.batch_size for row in known}):
            ends = _ends([row for row in known if row.batch_size == size])
            if ends is not None:
                parts.append(
                    f"batch {size}: {ends[0].memory.peak / ends[1].memory.peak:.2f} of the memory" + _time(ends)
                )
        findings.append(Finding(f"{name}: lowest fidelity against full", "cheaper in both", "; ".join(parts)))
        ours = "every cost rises" if not violations else f"not everywhere ({len(violations)}): {violations[0]}"
        findings.append(Finding(f"{name}: costs rise with the layers", "monotone", ours, held(not violations)))
    return _cost_figure(
        bench, "fig9", "Figure 9: memory and time of a step, by batch size", costs, findings, notes
    )


def _cost_figure(
    bench: Workbench,
    name: str,
    title: str,
    costs: Mapping[str, Sequence[CostRow]],
    findings: Sequence[Finding],
    notes: Sequence[str],
) -> Reproduced:
    rows: list[tuple[Cell, ...]] = []
    for case, of_case in costs.items():
        for row in of_case:
            if isinstance(row, StepCost):
                seconds = None if row.seconds is None else row.seconds.whole
                cells = (row.trainable_parameters, row.memory.peak, row.memory.activations, row.flops)
                times = (None, None) if seconds is None else (seconds.median, seconds.spread)
                rows.append((case, row.trainable_layers, row.num_layers, row.batch_size, *cells, *times, ""))
            else:
                failed = (row.trainable_layers, row.num_layers, row.batch_size)
                rows.append((case, *failed, None, None, None, None, None, None, row.reason))
    return Reproduced(
        name=name,
        title=title,
        scale=bench.scale,
        circumstances=f"{bench.torch_device}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32",
        findings=findings,
        columns=(
            "architecture", "layers", "num_layers", "batch_size", "trainable_parameters", "peak_bytes",
            "activation_bytes", "flops", "step_seconds", "step_seconds_spread", "failure",
        ),
        rows=rows,
        drawings=[drawing for case, of_case in costs.items() for drawing in _drawings(case, of_case)],
        notes=notes,
    )  # fmt: skip


def _all_costs(bench: Workbench, cases: Sequence[CostCase]) -> tuple[dict[str, list[CostRow]], list[str]]:
    """Return the costs of every case, by its name, and why any was left out."""
    costs: dict[str, list[CostRow]] = {}
    notes = []
    for case in cases:
        try:
            costs[case.name] = list(_costs(bench, case))
        except TaskError as error:
            notes.append(f"{case.name} is left out: {error}")
            continue
        notes += [
            f"{case.name}, {row.trainable_layers} layers, batch {row.batch_size} failed: {row.reason}"
            for row in costs[case.name]
            if isinstance(row, FailedStep)
        ]
    return costs, notes


def _costs(bench: Workbench, case: CostCase) -> Iterator[CostRow]:
    task = load_task(case.reference, case.options)
    layers = spread(_num_layers(case), case.layers)
    for size in case.batch_sizes:
        bench.say(f"{case.name}, batch {size}: {len(layers)} numbers of layers")
        if case.is_measured:
            yield from measure_steps(
                task,
                layers=layers,
                batch_sizes=(size,),
                device=bench.torch_device,
                warm_up=case.warm_up,
                repetitions=case.repetitions,
            )
        else:
            for number in layers:
                yield predict_step(task, trainable_layers=number, batch_size=size)


def _num_layers(case: CostCase) -> int:
    task = load_task(case.reference, case.options)
    try:
        return predict_step(task, trainable_layers=1).num_layers
    except PredictionError:
        return num_layers_of(task, None)


def spread(num_layers: int, count: int | None) -> tuple[int, ...]:
    """Return ``count`` numbers of layers from 1 to all, spread evenly; all of them for None."""
    if count is None or count >= num_layers:
        return tuple(range(1, num_layers + 1))
    return tuple(1 + (num_layers - 1) * step // (count - 1) for step in range(count))


def _ends(rows: Sequence[CostRow]) -> tuple[StepCost, StepCost] | None:
    """Return the costs of the lowest fidelity and of full training, if both are known."""
    known = [row for row in rows if isinstance(row, StepCost)]
    full = next(iter(full_costs(known).values()), None)
    return None if full is None else (min(known, key=lambda row: row.trainable_layers), full)


def _time(ends: tuple[StepCost, StepCost]) -> str:
    lowest, full = ends
    if lowest.seconds is None or full.seconds is None:
        return ""
    return f", {lowest.seconds.whole.median / full.seconds.whole.median:.2f} of the time"


def _drawings(case: str, rows: Sequence[CostRow]) -> list[Section]:
    known = [row for row in rows if isinstance(row, StepCost)]
    timed = [row for row in known if row.seconds is not None]
    sizes = sorted({row.batch_size for row in known})
    drawings = [figure_section(f"{case}: memory", peak_figure(known, sizes))]
    if timed:
        times = lines_figure(timed, sizes, "milliseconds per step", _milliseconds)
        drawings.append(figure_section(f"{case}: time", times))
    return drawings


def _milliseconds(cost: StepCost) -> float:
    assert cost.seconds is not None
    return 1e3 * cost.seconds.whole.median
