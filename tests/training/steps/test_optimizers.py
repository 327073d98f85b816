from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from frostline.errors import HyperparameterError
from frostline.records import Configuration, Value
from frostline.training.steps import optimizers
from frostline.training.steps.optimizers import (
    build_optimizer,
    hyperparameters_of,
    offered_optimizers,
    optimizer_class,
)


def built(kind: type[torch.optim.Optimizer], **hyperparameters: Value) -> dict[str, object]:
    """The defaults of an optimizer built with these hyperparameters."""
    parameters = [nn.Parameter(torch.zeros(2, 2))]
    return build_optimizer(kind, parameters, Configuration(number=0, hyperparameters=hyperparameters)).defaults


@pytest.mark.parametrize("name", offered_optimizers())
def test_every_optimizer_takes_its_hyperparameters_by_full_names(name: str) -> None:
    kind = optimizer_class(name)
    assert built(kind, learning_rate=0.25)["lr"] == 0.25
    assert "learning_rate" in hyperparameters_of(kind)
    assert not {"lr", "eps", "betas", "params", "foreach"} & hyperparameters_of(kind)


def test_adamw() -> None:
    given = built(
        torch.optim.AdamW, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.5, amsgrad=True, dropout=0.1
    )
    assert given["betas"] == (0.8, 0.9)
    assert (given["eps"], given["weight_decay"], given["amsgrad"]) == (1e-3, 0.5, True)


def test_one_beta_leaves_the_other_at_its_default() -> None:
    assert built(torch.optim.Adam, beta2=0.9)["betas"] == (0.9, 0.9)
    assert built(torch.optim.Adam, beta1=0.5)["betas"] == (0.5, 0.999)


def test_beta1_is_the_momentum_of_an_optimizer_without_betas() -> None:
    assert built(torch.optim.SGD, beta1=0.95, beta2=0.99)["momentum"] == 0.95
    assert built(torch.optim.SGD, beta1=0.95, momentum=0.5, nesterov=True)["momentum"] == 0.5
    assert "beta1" in hyperparameters_of(torch.optim.SGD)
    assert "beta2" not in hyperparameters_of(torch.optim.SGD)
    assert "beta1" not in hyperparameters_of(torch.optim.Adadelta)


def test_other_names_are_passed_where_the_optimizer_has_them() -> None:
    assert built(torch.optim.Adadelta, rho=0.7, alpha=0.3)["rho"] == 0.7
    assert built(torch.optim.RMSprop, rho=0.7, alpha=0.3)["alpha"] == 0.3


def test_none_keeps_the_default() -> None:
    assert built(torch.optim.AdamW, learning_rate=None, weight_decay=None) == built(torch.optim.AdamW)


def test_weight_decay_acts_on_all_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    configuration = Configuration(number=0, hyperparameters={"weight_decay": 0.5})
    optimizer = build_optimizer(torch.optim.AdamW, list(model.parameters()), configuration)
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(4, 0.5)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adamw", "optimizer is 'adamw', .*did you mean AdamW"),
        ("Adm", "did you mean .*Adam"),
        ("quantum", "use one of .*Adam.*SGD"),
        ("LBFGS", "'LBFGS', which is no optimizer of torch.optim that can be used"),
        (3, "optimizer is 3"),
    ],
)
def test_unknown_optimizers_are_refused(name: Value, words: str) -> None:
    with pytest.raises(HyperparameterError, match=words) as caught:
        optimizer_class(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "hyperparameters", "words"),
    [
        (torch.optim.SGD, {"learning_rate": -1.0}, "SGD cannot be built with lr=-1.0: Invalid learning rate"),
        (torch.optim.AdamW, {"beta1": 1.5}, r"betas=\(1.5, 0.999\): Invalid beta"),
        (torch.optim.SGD, {"nesterov": True}, "Nesterov momentum requires a momentum"),
        (torch.optim.AdamW, {"learning_rate": "high"}, "lr='high'"),
    ],
)
def test_refused_values_say_which(kind: type, hyperparameters: dict[str, Value], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words) as caught:
        built(kind, **hyperparameters)
    assert "\n" not in str(caught.value)


FUSED = pytest.mark.parametrize(
    ("kind", "hyperparameters"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.Adam, {"weight_decay": 0.01}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.SGD, {}),
        (torch.optim.Adagrad, {"lr_decay": 0.01}),
    ],
)
Shapes = tuple[tuple[int, ...], ...]
LARGE: Shapes = ((256, 256), (100_001,), (1, 300), (17, 3, 5))


def weights(shapes: Shapes = LARGE, device: torch.device | str = "cpu") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [nn.Parameter(one.to(device)) for one in drawn]


def optimizer_of(
    kind: type[torch.optim.Optimizer], parameters: list[nn.Parameter], **hyperparameters: Value
) -> torch.optim.Optimizer:
    given = {"learning_rate": 0.01, **hyperparameters}
    return build_optimizer(kind, parameters, Configuration(number=0, hyperparameters=given))


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.param_groups[0]["fused"])


def train(optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Steps with gradients that their place alone decides."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in optimizer.param_groups[0]["params"]:
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = gradient.to(parameter.device)
        optimizer.step()


def assert_equal_to_rounding(left: list[nn.Parameter], right: list[nn.Parameter]) -> None:
    for ours, theirs in zip(left, right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@FUSED
def test_fused_steps_are_the_default_ones(
    kind: type[torch.optim.Optimizer], hyperparameters: dict[str, Any], device: torch.device
) -> None:
    ours, theirs = weights(device=device), weights(device=device)
    optimizer = optimizer_of(kind, ours, **hyperparameters)
    assert is_fused(optimizer) or (kind is torch.optim.Adagrad and device.type == "cuda")
    train(optimizer, range(50))
    train(kind(theirs, lr=0.01, fused=False, **hyperparameters), range(50))  # type: ignore[call-arg]
    assert_equal_to_rounding(ours, theirs)


@FUSED
@pytest.mark.parametrize("fused_first", [True, False])
def test_fused_and_default_steps_go_on_from_each_other(
    kind: type[torch.optim.Optimizer], hyperparameters: dict[str, Any], fused_first: bool
) -> None:
    ours, theirs = weights(), weights()

    def default(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return kind(parameters, lr=0.01, **hyperparameters)  # type: ignore[call-arg]

    def built(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return optimizer_of(kind, parameters, **hyperparameters)

    first, second = (built, default) if fused_first else (default, built)
    before, after = first(ours), second(ours)
    train(before, range(5))
    after.load_state_dict(before.state_dict())
    assert is_fused(after) == fused_first  # a state brings its own way of computing with it
    train(after, range(5, 10))
    train(default(theirs), range(10))
    assert_equal_to_rounding(ours, theirs)


def test_fused_steps_are_taken_where_they_are_faster_and_exact() -> None:
    assert is_fused(optimizer_of(torch.optim.SGD, weights(((5, 5),))))
    assert is_fused(optimizer_of(torch.optim.AdamW, weights(((20, 20), (20,)))))
    assert not optimizer_of(torch.optim.RMSprop, weights()).defaults.get("fused")
    half = [nn.Parameter(one.detach().bfloat16()) for one in weights()]
    assert not is_fused(optimizer_of(torch.optim.SGD, half))
    gaps = [nn.Parameter(one.detach()[:, ::2]) for one in weights(((256, 512),))]
    assert not is_fused(optimizer_of(torch.optim.SGD, gaps))
    shared = [nn.Parameter(torch.zeros(1, 256).expand(256, 256))]
    assert not is_fused(optimizer_of(torch.optim.SGD, shared))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_gradients_that_lie_otherwise_than_their_parameters(kind: type[torch.optim.Optimizer]) -> None:
    ours, theirs = weights(LARGE[:1]), weights(LARGE[:1])
    optimizer, default = optimizer_of(kind, ours), kind(theirs, lr=0.01, weight_decay=optimizer_decay(kind))  # type: ignore[call-arg]
    train(optimizer, range(3))
    train(default, range(3))
    assert is_fused(optimizer)
    for parameter in (*ours, *theirs):
        parameter.grad = torch.arange(256.0 * 256, dtype=torch.float64).view(256, 256).t()
    optimizer.step()
    default.step()
    assert not is_fused(optimizer)
    train(optimizer, range(4, 6))
    train(default, range(4, 6))
    assert_equal_to_rounding(ours, theirs)


def test_a_gradient_of_one_row_is_contiguous_whatever_its_strides() -> None:
    parameter = nn.Parameter(torch.zeros(1, 40_000))
    optimizer = optimizer_of(torch.optim.SGD, [parameter])
    parameter.grad = torch.empty_strided((1, 40_000), (1, 1)).fill_(1.0)
    optimizer.step()
    assert is_fused(optimizer)
    assert torch.equal(parameter.detach(), torch.full((1, 40_000), -0.01))


def test_parameters_that_are_moved_in_memory() -> None:
    """As when they become parts of a stack, after the optimizer was built."""

    def trained(*, ours: bool) -> list[nn.Parameter]:
        parameters = weights(LARGE[:1])
        optimizer = optimizer_of(torch.optim.AdamW, parameters) if ours else torch.optim.AdamW(parameters, lr=0.01)
        train(optimizer, range(2))
        parameters[0].data = parameters[0].detach().t().contiguous().t()
        train(optimizer, range(2, 4))
        return parameters

    assert_equal_to_rounding(trained(ours=True), trained(ours=False))


def optimizer_decay(kind: type[torch.optim.Optimizer]) -> float:
    return float(kind([nn.Parameter(torch.zeros(1))]).defaults["weight_decay"])  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_sparse_gradients(kind: type[torch.optim.Optimizer]) -> None:
    def trained(*, ours: bool) -> torch.Tensor:
        torch.manual_seed(0)
        embedding = nn.Embedding(1000, 64, sparse=True)
        parameters = list(embedding.parameters())
        optimizer = optimizer_of(kind, parameters) if ours else kind(parameters, lr=0.01)  # type: ignore[call-arg]
        assert is_fused(optimizer) == ours
        for index in range(3):
            optimizer.zero_grad()
            embedding(torch.tensor([index, 7])).square().sum().backward()
            optimizer.step()
        return embedding.weight.detach()

    # To opt in or out: Adagrad makes sparse tensors of its own, and torch warns who did neither.
    with torch.sparse.check_sparse_tensor_invariants(enable=True):  # type: ignore[no-untyped-call]
        assert torch.equal(trained(ours=True), trained(ours=False))


def test_a_parameter_that_gets_its_first_gradient_late() -> None:
    def trained(*, ours: bool) -> list[nn.Parameter]:
        parameters = weights(((256, 256), (256, 256)))
        optimizer = (
            optimizer_of(torch.optim.SGD, parameters, momentum=0.9)
            if ours
            else torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
        )
        for step in range(4):
            parameters[0].grad = torch.ones_like(parameters[0])
            parameters[1].grad = torch.ones_like(parameters[1]) if step > 1 else None
            optimizer.step()
        return parameters

    assert_equal_to_rounding(trained(ours=True), trained(ours=False))


class Refusing(torch.optim.SGD):
    """An optimizer of a torch that has no fused steps for these parameters."""

    def __init__(self, params: list[nn.Parameter], lr: float = 0.1, *, fused: bool | None = None) -> None:
        if fused:
            raise RuntimeError("`fused=True` requires something else")
        super().__init__(params, lr=lr)


def test_an_optimizer_that_refuses_to_be_fused_is_built_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_FUSED", {*optimizers._FUSED, Refusing})
    optimizer = optimizer_of(Refusing, weights())
    assert type(optimizer) is Refusing
    assert not is_fused(optimizer)
