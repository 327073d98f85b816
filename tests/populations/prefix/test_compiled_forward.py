"""Frozen modules that are compiled give what they gave, or are not compiled, by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from frostline.populations.prefix.compiled_forward import CompiledForward
from frostline.populations.prefix.proof import prove
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.training.session import Session, begin_session
from tests.populations.cases import CASES, Case, configuration_of
from tests.training.cases import settings_of

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What torch has traced: it is run as it is, for making machine code of it takes most of a minute."""
    traced: list[Any] = []
    own = torch.compile

    def as_it_is(graph: Any, _inputs: Any) -> Callable[..., Any]:
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function: own(function, backend=as_it_is))
    torch._dynamo.reset()
    return traced


def session_of(case: Case, **changes: Any) -> Session:
    settings = settings_of()
    return begin_session(
        case.task(**changes),
        configuration_of(0),
        trainable_layers=2,
        device_plan=settings.device_plan,
        root_seed=settings.root_seed,
    )


def outputs_of(session: Session, *, compiled: bool) -> list[torch.Tensor]:
    prefix = SharedPrefix([session], compiled=compiled)
    prove(prefix)
    batch = next(session.task.training_batches(session.configuration, seed=0, skip_samples=0))
    outputs = prefix.recording(prefix.deepest, batch).kept()
    prefix.release()
    return outputs


@pytest.mark.parametrize("name", ["gpt", "resnet", "skips"])
def test_compiled_frozen_layers_give_what_they_gave(name: str, graphs: list[Any]) -> None:
    session = session_of(BY_NAME[name])
    expected = outputs_of(session, compiled=False)
    assert not graphs
    forwards = [module.forward for module in session.model.modules()]
    torch.testing.assert_close(outputs_of(session, compiled=True), expected, rtol=1e-12, atol=1e-12)
    assert graphs
    assert [module.forward for module in session.model.modules()] == forwards


def test_weights_that_are_made_whole_for_a_module_are_not_compiled(graphs: list[Any]) -> None:
    session = session_of(BY_NAME["gpt"], frozen_placement="stream")
    forwards = [module.forward for module in session.model.modules()]
    expected = outputs_of(session, compiled=False)
    assert outputs_of(session, compiled=True)[0].equal(expected[0])
    assert [module.forward for module in session.model.modules()] == forwards
    weights = [node.target for graph in graphs for node in graph.graph.nodes if "weight" in str(node.target)]
    assert not weights


@pytest.mark.slow
def test_machine_code_gives_what_the_module_gave() -> None:
    session = session_of(BY_NAME["skips"])
    expected = outputs_of(session, compiled=False)
    torch.testing.assert_close(outputs_of(session, compiled=True), expected, rtol=1e-12, atol=1e-12)


def test_what_a_compiler_cannot_make_is_computed_as_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = torch.compile

    def refusing(_graph: Any, _inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda function: own(function, backend=refusing))
    # Where tests before had it compile eight times, it would not even try.
    torch._dynamo.reset()
    linear = nn.Linear(2, 2)
    compiled = CompiledForward(linear.forward, "blocks.0")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert compiled(torch.ones(1, 2)).equal(linear(torch.ones(1, 2)))
    (record,) = [each for each in caplog.records if "is not compiled" in each.message]
    assert record.message.startswith("blocks.0 is not compiled: BackendCompilerFailed: ")


def test_what_a_module_raises_is_its_own(graphs: list[Any]) -> None:
    linear = nn.Linear(2, 2)
    compiled = CompiledForward(linear.forward, "blocks.0")
    with pytest.raises(TypeError, match=r"linear\(\): argument 'input' .* must be Tensor, not str"):
        compiled("no tensor")
    assert compiled(torch.ones(1, 2)).equal(linear(torch.ones(1, 2)))
    assert not graphs
