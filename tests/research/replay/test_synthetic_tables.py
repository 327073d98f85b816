from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from frostline.audit.csv_table import read_table, write_table
from frostline.errors import OptionError
from frostline.research.replay.synthetic import augmented_branin, augmented_rosenbrock, hartmann
from frostline.research.replay.synthetic_tables import SyntheticGrid, levels, synthetic_landscape


def correlations(landscape) -> np.ndarray:
    shape = landscape.scores.shape[1:]
    found = [
        spearmanr(landscape.scores[:, z, s], landscape.full_losses)[0]
        for z in range(shape[0])
        for s in range(shape[1])
    ]
    return np.array(found).reshape(shape)


def test_full_fidelity_is_the_function_itself_and_repeats_are_as_noisy_as_it() -> None:
    quiet = synthetic_landscape(hartmann(3), configurations=30, seed=4, num_repeats=2)
    points = np.array([list(configuration.values()) for configuration in quiet.configurations])
    np.testing.assert_array_equal(quiet.full_losses, hartmann(3)(points))
    np.testing.assert_array_equal(quiet.repeats, [quiet.full_losses] * 2)
    for configuration in quiet.configurations:
        quiet.space.validate(configuration)
    noisy = synthetic_landscape(hartmann(3, full_noise=0.1), configurations=2000, seed=4, num_repeats=3)
    np.testing.assert_allclose(noisy.repeats.std(axis=0, ddof=1).mean(), 0.1 * 0.8862, rtol=0.05)
    truth = hartmann(3)(np.array([list(configuration.values()) for configuration in noisy.configurations]))
    assert (noisy.full_losses - truth).std() == pytest.approx(0.1, rel=0.05)


def test_cells_rank_better_the_higher_they_are_and_a_shift_spoils_few_layers() -> None:
    grid = SyntheticGrid(num_layers=4, num_budgets=4)
    plain = correlations(
        synthetic_landscape(hartmann(6, bias=1.0, noise=0.3), configurations=400, seed=0, grid=grid)
    )
    assert plain[0, 0] < 0.6 < plain[2, 2] < 1.0
    assert plain[-1, -1] == pytest.approx(1.0)
    for axis in (0, 1):
        assert (np.diff(plain, axis=axis) > -0.05).all()
    shifted = synthetic_landscape(
        hartmann(6, bias=1.0, noise=0.3, shift=0.3), configurations=400, seed=0, grid=grid
    )
    assert correlations(shifted)[0, 3] < plain[0, 3] - 0.2
    assert correlations(shifted)[3, 0] == pytest.approx(plain[3, 0])


def test_seconds_are_those_of_populations() -> None:
    landscape = synthetic_landscape(
        augmented_branin(),
        configurations=3,
        seed=0,
        grid=SyntheticGrid(num_layers=10, num_budgets=4, full_samples=400, full_seconds=60.0, population=5),
    )
    assert landscape.samples == (100, 200, 300, 400)
    # 1 of 10 layers: 9 / 5 + 3 forward passes of 30.
    np.testing.assert_allclose(landscape.seconds[:, 0, 1], 60.0 * (9 / 5 + 3) / 30 / 2)
    np.testing.assert_allclose(landscape.seconds[:, -1], [[15.0, 30.0, 45.0, 60.0]] * 3)


def test_the_same_arguments_give_the_same_table_and_it_can_be_written(tmp_path) -> None:
    function = augmented_rosenbrock(3)
    first, again, other = (synthetic_landscape(function, configurations=6, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)
    write_table(first, tmp_path / "table.csv.gz")
    read = read_table(tmp_path / "table.csv.gz")
    np.testing.assert_allclose(read.scores, first.scores, rtol=1e-8)
    assert read.configurations == first.configurations


def test_levels_go_by_the_logarithm() -> None:
    assert levels((10, 100, 1000)) == pytest.approx((0.0, 0.5, 1.0))
    assert levels((5,)) == (1.0,)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_budgets": -1}, "num_budgets is -1"),
        ({"population": 0}, "population is 0"),
        ({"num_budgets": 10, "full_samples": 9}, "full_samples is 9, but 10 budgets need as many"),
    ],
)
def test_grids_that_are_none_are_refused(grid, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        SyntheticGrid(**grid)
