from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from frostline.training.steps.weight_mean import WeightMean

EXPONENT = 8


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()


def trained(model: nn.Module, steps: int, *, begin: int = 0) -> Iterator[Tensor]:
    """Train, and yield after each step what came into the normalisation."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[Tensor] = []
    model[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))  # type: ignore[index]
    for step in range(begin, begin + steps):
        inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        yield seen.pop()


def mean_of(model: nn.Module) -> WeightMean:
    return WeightMean(model, [*model.parameters()])


def judged(mean: WeightMean, model: nn.Module) -> dict[str, Tensor]:
    with mean.in_place():
        return {name: value.clone() for name, value in model.state_dict().items()}


def weighted(values: list[Tensor]) -> Tensor:
    """The mean in which the first i of n steps have the share (i/n)**(EXPONENT + 1) together."""
    steps = torch.arange(len(values) + 1, dtype=torch.float64)
    shares = ((steps / len(values)) ** (EXPONENT + 1)).diff()
    return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(0)


def test_it_is_the_mean_of_the_weights_and_of_the_batches_statistics_later_ones_counting_more() -> None:
    model = network()
    mean = mean_of(model)
    weights, means, variances = [], [], []
    # As long as every step is counted.
    for activations in trained(model, 30):
        mean.add()
        weights.append(model[0].weight.detach().clone())  # type: ignore[index]
        means.append(activations.mean(0))
        variances.append(activations.var(0))
    found = judged(mean, model)
    torch.testing.assert_close(found["0.weight"], weighted(weights))
    torch.testing.assert_close(found["1.running_mean"], weighted(means))
    torch.testing.assert_close(found["1.running_var"], weighted(variances))


def test_of_many_steps_few_are_counted_and_it_is_the_same_mean_nearly() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    mean = WeightMean(nn.Module(), [weight])
    counted = []
    for step in range(5000):
        weight.data.fill_(float(step))
        before = mean.contents()["counted"]
        mean.add()
        counted.append(mean.contents()["counted"] > before)
    assert all(counted[:30])
    assert sum(counted) < 250
    with mean.in_place():
        # Of i**8 up to 5000 the mean of i is 9/10 of that.
        assert weight.item() == pytest.approx(4500, rel=0.01)


def test_the_model_is_put_back_bit_for_bit_also_after_an_error() -> None:
    model = network()
    mean = mean_of(model)
    for _ in trained(model, 3):
        mean.add()
    before = copy.deepcopy(model.state_dict())

    def fail() -> None:
        assert not torch.equal(model[0].weight, before["0.weight"])  # type: ignore[index,arg-type]
        raise RuntimeError("mishap")

    with pytest.raises(RuntimeError, match="mishap"), mean.in_place():
        fail()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("steps", [3, 50, 200])
def test_going_on_from_its_contents_is_the_mean_of_never_having_stopped(steps: int) -> None:
    model = network()
    mean = mean_of(model)
    for _ in trained(model, steps):
        mean.add()
    kept = copy.deepcopy((model.state_dict(), mean.contents()))
    other = network()
    other.load_state_dict(kept[0])
    resumed = mean_of(other)
    resumed.restore(kept[1])
    for each, its_mean in ((model, mean), (other, resumed)):
        for _ in trained(each, 17, begin=steps):
            its_mean.add()
    found, expected = judged(resumed, other), judged(mean, model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_mean_of_another_model_is_refused() -> None:
    mean = mean_of(network())
    with pytest.raises(ValueError, match="argument"):
        mean.restore(mean_of(nn.Sequential(nn.Linear(3, 4))).contents())
    with pytest.raises(RuntimeError, match="size"):
        WeightMean(nn.Module(), [nn.Parameter(torch.zeros(3))]).restore(
            WeightMean(nn.Module(), [nn.Parameter(torch.zeros(2))]).contents()
        )


def test_frozen_normalisations_and_those_that_average_by_themselves_are_left_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, momentum=None), nn.Linear(2, 1))
    model[0].eval()
    mean = WeightMean(model, [*model[2].parameters()])
    model(torch.randn(8, 2))
    mean.add()
    statistics = copy.deepcopy(model[1].state_dict())
    with mean.in_place():
        assert torch.equal(model[0].running_mean, torch.zeros(2))
        assert torch.equal(model[1].running_mean, statistics["running_mean"])


@pytest.mark.parametrize("times", [0, 2])
def test_a_normalisation_may_run_several_times_in_a_step_or_not_at_all(times: int) -> None:
    model = nn.BatchNorm1d(2).double()
    mean = mean_of(model)
    batches = [torch.full((8, 2), 5.0, dtype=torch.float64) + torch.randn(8, 2) for _ in range(times)]
    for batch in batches:
        model(batch)
    mean.add()
    with mean.in_place():
        assert model.running_mean is not None
        if times == 0:
            assert torch.equal(model.running_mean, torch.zeros(2, dtype=torch.float64))
        else:
            lowest, highest = sorted(batch.mean(0).tolist() for batch in batches)
            assert all(
                min(low, high) <= value <= max(low, high)
                for value, low, high in zip(model.running_mean.tolist(), lowest, highest, strict=True)
            )


def test_weights_of_half_precision_are_averaged_in_single() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    mean = WeightMean(nn.Module(), [weight])
    for value in (1.0, 1.0, 1.0078125):
        weight.data.fill_(value)
        mean.add()
    [found] = mean.contents()["means"]
    assert found.dtype == torch.float32
    assert 1.0 < found.item() < 1.0078125
