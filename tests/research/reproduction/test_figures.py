"""Figures made end to end from trainings of seconds, and their numbers against the audit's and by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from frostline.audit.agreement import agreement, rank_correlation
from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.costs.predicted.prediction import predict_step
from frostline.errors import AuditError
from frostline.records import Configuration
from frostline.research.reproduction import architectures, choices, parallel_halving, steps
from frostline.research.reproduction.catalogue import FIGURES, figure_named
from frostline.research.reproduction.joint import TABLE_3, diagonal_layer, paper_traces
from frostline.research.reproduction.paired import at_budgets, correlation_difference, in_common, lowest_first
from frostline.research.reproduction.reproduced import Reproduced, Verdict
from frostline.research.reproduction.scales import Scale
from frostline.research.reproduction.workbench import Workbench
from frostline.search.spaces.space import SearchSpace
from frostline.store.reading import read_study
from frostline.tasks.loading import load_task
from tests.research.reproduction.recipes import micro


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """One folder for all tests, as figures share their landscapes."""
    return Workbench(scale=Scale.TINY, out=tmp_path_factory.mktemp("reproduction"), recipes=micro, device="cpu")


def records(made: Reproduced, folder: Path) -> list[dict[str, str]]:
    """What was written, read again."""
    table, page = made.write(folder)
    text = page.read_text()
    assert text.count('<script type="application/json">') == len(made.drawings) > 0
    assert 'src="http' not in text
    for finding in made.findings:
        assert finding.what.replace("&", "&amp;") in text
    first, *rest = table.read_text().splitlines()
    assert json.loads(first.removeprefix("# "))["scale"] == "tiny"
    rows = list(csv.DictReader(rest))
    assert len(rows) == len(made.rows)
    return rows


def drawn(num_configurations: int = 12, *, noise: float = 0.0, layers: int = 10, seed: int = 0) -> Landscape:
    """A landscape whose scores are known: the configuration's own, and noise that falls with layers and samples."""
    generator = np.random.default_rng(seed)
    samples = tuple(100 * (index + 1) for index in range(10))
    own = np.arange(num_configurations, dtype=float)[:, None, None]
    z, s = (np.arange(1, n + 1) / n for n in (layers, len(samples)))
    blur = noise * (1 - z[:, None] * s[None, :])
    scores = own + blur * generator.standard_normal((num_configurations, layers, len(samples)))
    seconds = np.broadcast_to(np.outer(z, s), scores.shape)
    return Landscape(
        task="made up",
        reference="",
        space=SearchSpace(distributions={"x": FloatDistribution(0, 1)}),
        direction="minimize",
        sample_unit="tokens",
        horizon="full",
        seed=0,
        configurations=tuple(
            Configuration(number=n, hyperparameters={"x": n / num_configurations})
            for n in range(num_configurations)
        ),
        layers=tuple(range(1, layers + 1)),
        samples=samples,
        scores=scores,
        seconds=seconds,
        peak_bytes=np.full(scores.shape, np.nan),
        flops=np.full(scores.shape, np.nan),
        repeats=np.empty((0, num_configurations)),
    )


def test_the_landscape_of_a_figure_is_what_was_trained_and_is_the_audits(bench: Workbench) -> None:
    made = figure_named("fig5").run(bench)
    rows = records(made, bench.folder)
    landscape = read_table(bench.folder / "landscape-gpt.csv.gz")
    assert (landscape.num_configurations, landscape.layers, len(landscape.samples)) == (6, (1, 2, 3), 5)
    found = agreement(landscape).spearman
    for row, (z, s) in zip(rows, np.ndindex(3, 5), strict=True):
        assert (int(row["layers"]), int(row["samples"])) == (landscape.layers[z], landscape.samples[s])
        own = rank_correlation(landscape.losses[:, z, s], landscape.full_losses)
        assert float(row["spearman"]) == pytest.approx(own, abs=1e-5)
        assert float(row["low"]) == pytest.approx(found.low[z, s], abs=1e-5)
        assert float(row["mean_seconds"]) == pytest.approx(landscape.seconds[:, z, s].mean(), rel=1e-4)
        assert float(row["flops"]) > 0
    history = read_study(bench.storage, "tiny gpt").history
    assert landscape.scores[2, 1, -1] == pytest.approx(history.evaluation(2, 1).score, rel=1e-6)  # type: ignore[union-attr]


def test_figures_share_their_landscapes_and_a_second_run_trains_nothing(bench: Workbench) -> None:
    before = records(figure_named("fig5").run(bench), bench.folder)
    said: list[str] = []
    quiet = Workbench(scale=bench.scale, out=bench.out, recipes=micro, device="cpu", say=said.append)
    assert records(figure_named("fig5").run(quiet), quiet.folder) == before
    figure_named("fig11").run(quiet)
    figure_named("table3").run(quiet)
    assert said == []


@pytest.mark.parametrize(
    "name", [one.name for one in FIGURES if one.models and {*one.models} <= {"gpt", "resnet"}]
)
def test_every_figure_of_trainings_is_made(name: str, bench: Workbench) -> None:
    made = figure_named(name).run(bench)
    assert made.name == name
    assert made.findings
    records(made, bench.folder)


def test_a_table_is_read_instead_of_training(bench: Workbench, tmp_path: Path) -> None:
    figure_named("fig11").run(bench)
    table = bench.folder / "landscape-gpt.csv.gz"
    other = Workbench(scale=Scale.PAPER, out=tmp_path, tables={"gpt": table})
    made = figure_named("fig11").run(other)
    for row, own in zip(made.rows, figure_named("fig11").run(bench).rows, strict=True):
        assert row == pytest.approx(own, rel=1e-6)
    assert figure_named("fig11").plan(other) == [f"gpt: read from {table}"]
    assert other.task("gpt").full_samples == 640


def bench_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **landscapes: Landscape) -> Workbench:
    monkeypatch.setattr(Workbench, "landscape", lambda _self, model: landscapes[model.replace("-", "_")])
    return Workbench(scale=Scale.TINY, out=tmp_path)


def test_the_table_takes_the_diagonal_and_the_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landscape = drawn(noise=3.0)
    made = figure_named("table3").run(bench_of(tmp_path, monkeypatch, gpt=landscape))
    rows = records(made, tmp_path)
    for s, (row, paper) in enumerate(zip(rows, TABLE_3, strict=True)):
        assert (int(row["diagonal_layers"]), int(row["single_layers"])) == (s + 1, 10)
        own = rank_correlation(landscape.losses[:, s, s], landscape.full_losses)
        assert float(row["diagonal_spearman"]) == pytest.approx(own, abs=1e-5)
        own = rank_correlation(landscape.losses[:, -1, s], landscape.full_losses)
        assert float(row["single_spearman"]) == pytest.approx(own, abs=1e-5)
        assert float(row["single_seconds"]) == pytest.approx((s + 1) / 10)
        assert float(row["diagonal_seconds"]) == pytest.approx((s + 1) ** 2 / 100)
        # FLOPs that nobody knows are no zeros.
        assert row["single_flops"] == ""
        assert float(row["paper_share"]) == paper.share
        assert float(row["paper_diagonal_spearman"]) == paper.diagonal[0]


def test_a_table_of_two_budgets_has_no_rungs_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landscape = at_budgets(drawn(noise=3.0), [4])
    made = figure_named("table3").run(bench_of(tmp_path, monkeypatch, gpt=landscape))
    assert len(records(made, tmp_path)) == 2
    assert [finding.what.split(":")[0] for finding in made.findings] == ["lowest rung", "lowest rung"]


def test_the_papers_own_table_is_as_the_design_quotes_it() -> None:
    lowest = TABLE_3[0]
    assert lowest.single[1] / lowest.diagonal[1] == pytest.approx(1.18, abs=0.005)
    assert lowest.single[2] / lowest.diagonal[2] == pytest.approx(1.59, abs=0.005)
    assert all(row.diagonal[2] <= row.single[2] for row in TABLE_3)


def test_traces_are_where_the_paper_drew_them() -> None:
    diagonal, single = paper_traces(drawn())
    # (1 layer, 12 %), (2, 25 %), (5, 50 %), all: on a grid of tenths.
    assert diagonal.cells == ((0, 0), (1, 1), (4, 4), (9, 9))
    assert single.cells == ((9, 0), (9, 1), (9, 4), (9, 9))
    assert [diagonal_layer(drawn(layers=8), s) for s in range(10)] == [0, 0, 1, 2, 3, 3, 4, 5, 6, 7]


def test_verdicts_follow_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perfect, hopeless = drawn(40), drawn(40, noise=1e4)
    made = figure_named("fig4").run(bench_of(tmp_path, monkeypatch, gpt=perfect, resnet=hopeless))
    verdicts = {finding.what: finding.verdict for finding in made.findings}
    assert verdicts["gpt: ρ with 40 % of the layers trained"] is Verdict.HOLDS
    assert verdicts["resnet: ρ with 40 % of the layers trained"] is Verdict.FAILS
    assert [row[1] for row in made.rows if row[0] == "gpt"] == list(range(1, 11))
    few = figure_named("fig4").run(bench_of(tmp_path, monkeypatch, gpt=drawn(6, noise=9), resnet=perfect))
    assert any("gpt: 6 configurations are too few to conclude" in note for note in few.notes)
    assert not any("resnet" in note for note in few.notes)


def test_a_correlation_over_fewer_than_five_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landscape = drawn(4)
    for name in ("fig4", "fig5", "table3"):
        with pytest.raises(AuditError, match="at least 5"):
            figure_named(name).run(bench_of(tmp_path, monkeypatch, gpt=landscape, resnet=landscape))
    other = drawn(12).of([3, 4, 5, 6])
    with pytest.raises(AuditError, match="at least 5"):
        choices.FIGURE_12.compared(bench_of(tmp_path, monkeypatch, gpt=drawn(12), gpt_tied=other))


def test_ways_are_compared_over_the_same_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = drawn(30), drawn(30, noise=30.0)
    # In another order and not all of them: what is compared is the same configuration.
    bad = bad.of([*range(25, 4, -1)])
    first, second = in_common([good, bad])
    assert [one.number for one in first.configurations] == [one.number for one in second.configurations]
    assert second.num_configurations == 21
    made = choices.FIGURE_12.compared(bench_of(tmp_path, monkeypatch, gpt=good, gpt_tied=bad))
    rows = records(made, tmp_path)
    lowest = [row for row in rows if (row["layers"], row["samples"]) == ("1", "1000")]
    gain = 1.0 - rank_correlation(bad.losses[:, 0, -1], bad.full_losses)
    assert float(lowest[0]["gain_of_first"]) == pytest.approx(gain, abs=1e-5)
    assert float(lowest[0]["gain_low"]) > 0
    assert made.findings[1].ours.startswith("untied ranks better at 1, ")
    swapped = correlation_difference(
        (lowest_first(second), second.full_losses), (lowest_first(first), first.full_losses)
    )
    assert float(swapped.value[0, -1]) == pytest.approx(-gain)
    assert float(swapped.high[0, -1]) < 0


def test_a_compressed_schedule_is_compared_at_its_own_budget(bench: Workbench) -> None:
    made = choices.horizon_choice(bench)
    rows = records(made, bench.folder)
    whole, part = (read_table(bench.folder / f"landscape-{model}.csv.gz") for model in ("gpt", "gpt-20"))
    own = rank_correlation(part.losses[:, 0, -1], whole.full_losses)
    cut = rank_correlation(whole.losses[:, 0, 0], whole.full_losses)
    found = {row["way"]: float(row["spearman"]) for row in rows if (row["layers"], row["samples"]) == ("1", "128")}
    assert found == {"rung": pytest.approx(own, abs=1e-5), "full": pytest.approx(cut, abs=1e-5)}
    # The schedule differs, and so do the scores.
    assert not np.allclose(part.scores[:, 0, -1], whole.scores[:, 0, 0])


def test_a_figure_of_costs_is_what_costs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"num_hidden_layers": 3, "width": 16}
    cases = (
        steps.CostCase(name="told", reference="digits-mlp", options=options, batch_sizes=(8, 32)),
        steps.CostCase(name="timed", reference="digits-mlp", options=options, layers=2, repetitions=2),
        steps.CostCase(name="none", reference="cifar100-resnet18", options={"directory": "nowhere"}),
    )
    monkeypatch.setattr(steps, "FIGURE_9", {Scale.TINY: cases})
    made = steps.figure_9(Workbench(scale=Scale.TINY, out=tmp_path, device="cpu"))
    rows = records(made, tmp_path)
    told = [row for row in rows if row["architecture"] == "told"]
    assert [(row["batch_size"], row["layers"]) for row in told] == [(b, z) for b in ("8", "32") for z in "1234"]
    cost = predict_step(load_task("digits-mlp", options), trainable_layers=2, batch_size=32)
    assert int(told[5]["peak_bytes"]) == cost.memory.peak
    assert int(told[5]["flops"]) == cost.flops
    assert told[5]["step_seconds"] == ""
    timed = [row for row in rows if row["architecture"] == "timed"]
    assert [row["layers"] for row in timed] == ["1", "4"]
    assert all(float(row["step_seconds"]) > 0 for row in timed)
    assert any(note.startswith("none is left out: ") for note in made.notes)


def test_halving_in_the_memory_of_one_full_training_packs_its_cheap_rungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = parallel_halving.HalvingPlan(model="gpt", configurations=8, reduction_factor=2)
    monkeypatch.setattr(parallel_halving, "PLANS", {Scale.TINY: plan})
    bench = Workbench(scale=Scale.TINY, out=tmp_path, recipes=micro, device="cpu")
    made = parallel_halving.figure_6b(bench)
    rows = records(made, tmp_path)
    packed = [row for row in rows if row["way"] == "layers and samples, together"]
    assert [int(row["configurations"]) for row in packed] == [8, 4, 2]
    assert int(packed[0]["trained_together"]) > 1
    assert int(packed[-1]["trained_together"]) == 1
    assert all(int(row["trained_together"]) == 1 for row in rows if row["way"] != "layers and samples, together")
    # One by one or together, the configurations come to the same.
    best = {row["way"]: float(row["best_score"]) for row in rows}
    assert best["layers and samples, together"] == pytest.approx(best["layers and samples, one by one"], rel=1e-4)


def test_parameters_are_counted_from_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "ARCHITECTURES", architectures.ARCHITECTURES[:1])
    made = figure_named("fig2-right").run(Workbench(scale=Scale.TINY, out=Path("unused")))
    of_14m = [row for row in made.rows if row[0] == "14M"]
    assert len(of_14m) == 10
    # The head's norm and its projection: 128 x 50,688 and twice 128.
    assert of_14m[0][3] == 128 * 50_688 + 256
    assert of_14m[-1][4] == 1
