from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import nn

from frostline.layers import freeze
from frostline.layers.freezing.frozen_statistics import cumulative
from frostline.training.steps.batch_statistics import measured_normalisations, measuring_batches
from tests.training.cases import configured, noisy_network, regression_task

BATCHES = [torch.randn(16, 3, generator=torch.Generator().manual_seed(each)) + each for each in range(4)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None))


def test_they_are_the_mean_of_the_batches_and_nothing_of_before() -> None:
    model = network()
    model(100 + BATCHES[0])
    with cumulative(measured_normalisations(model)):
        for batch in BATCHES:
            model(batch)
    means = torch.stack([batch.mean(0) for batch in BATCHES])
    variances = torch.stack([batch.var(0) for batch in BATCHES])
    torch.testing.assert_close(model[0].running_mean, means.mean(0))
    torch.testing.assert_close(model[0].running_var, variances.mean(0))
    assert (model[0].momentum, model[3].momentum) == (0.1, None)


def test_those_of_instances_are_too() -> None:
    model = nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True))
    batches = [torch.randn(4, 3, 5) + each for each in range(4)]
    model(100 + batches[0])
    with cumulative(measured_normalisations(model)):
        for batch in batches:
            model(batch)
    means = torch.stack([batch.mean((0, 2)) for batch in batches])
    torch.testing.assert_close(model[0].running_mean, means.mean(0))
    torch.testing.assert_close(
        model[0].running_var, torch.stack([batch.var(2).mean(0) for batch in batches]).mean(0)
    )
    assert model[0].momentum == 0.1
    assert not model[0]._forward_hooks


def test_frozen_ones_and_those_without_running_statistics_are_left_alone() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(3)))
    model[2][1] = nn.BatchNorm1d(3, track_running_stats=False)
    assert measured_normalisations(model) == (model[0][1], model[1][1])
    freezing = freeze(model, trainable_layers=2)
    assert measured_normalisations(model) == (model[1][1],)
    freezing.restore()
    # Those of frozen layers go with the batches, too: measuring would disturb them.
    freeze(model, trainable_layers=2, frozen_statistics="batch")
    assert measured_normalisations(model) == ()


@pytest.mark.parametrize(("samples_seen", "expected"), [(0, 1), (40, 1), (80, 2), (160, 4), (10_000, 8)])
def test_of_what_was_seen_a_fifth_is_used_at_most_and_one_batch_at_least(samples_seen: int, expected: int) -> None:
    task = regression_task(model=noisy_network)
    batches = [*islice(task.training_batches(configured(), seed=0, skip_samples=0), 20)]
    found = measuring_batches(task, batches, samples_seen=samples_seen)
    assert len(found) == expected
    assert all(one is other for one, other in zip(found, batches, strict=False))
