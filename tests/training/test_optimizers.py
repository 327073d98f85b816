from __future__ import annotations

import pytest
import torch
from torch import nn

from frostline.errors import HyperparameterError
from frostline.records import Configuration, Value
from frostline.training.optimizers import build_optimizer, hyperparameters_of, offered_optimizers, optimizer_class


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
