"""Stacked steps follow their twins, one by one."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline.errors import ModelError
from frostline.populations.stacking.stacked import StackedStep
from frostline.populations.stacking.stacked_outcome import State
from frostline.protocols import Batch
from frostline.records import Configuration
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.models.resnet import ResNet, ResNetSettings
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import Session, begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import CPU, Block, configured, noisy_network, perceptron, regression_task

OPTIMIZERS: tuple[dict[str, Any], ...] = (
    {"optimizer": "AdamW", "weight_decay": 0.1},
    {"optimizer": "Adam", "beta1": 0.8},
    {"optimizer": "SGD", "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "SGD", "momentum": 0.8, "nesterov": True},
)
# Each clips at another norm, and one not at all.
CLIPPING = ({"gradient_clip_norm": 0.3}, {}, {"gradient_clip_norm": 1.5})


@pytest.fixture(autouse=True)
def _borrowed() -> Iterator[None]:
    with borrowed_generators(CPU):
        yield


def images_task(model: Any, **changes: Any) -> SupervisedTask:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 1, 8, 8, generator=generator, dtype=torch.float64)
    data = TensorDataset(images, torch.randint(0, 10, (40,), generator=generator))
    return regression_task(
        model=model, training_data=data, validation_data=data, loss_function=functional.cross_entropy, **changes
    )


def resnet(_configuration: Configuration) -> nn.Module:
    return ResNet(ResNetSettings(widths=(4, 4, 8))).double()


def short_resnet(_configuration: Configuration) -> nn.Module:
    return ResNet(ResNetSettings(widths=(4, 8))).double()


def vision_transformer(_configuration: Configuration) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=10,
        hidden_dropout_prob=0.1,
    )
    return transformers.ViTForImageClassification(config).double()


def gpt_task(
    *, num_blocks: int = 2, tied_weights: bool = False, dropout: float = 0.0, **changes: Any
) -> SupervisedTask:
    settings = GPTSettings(
        num_blocks=num_blocks,
        num_heads=2,
        width=16,
        context_length=8,
        vocabulary_size=20,
        vocabulary_multiple=4,
        tied=tied_weights,
        dropout=dropout,
    )
    tokens = torch.randint(0, 20, (40, 9), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    return regression_task(
        model=lambda _: GPT(settings).double(),
        training_data=data,
        validation_data=data,
        loss_function=next_token_loss,
        **changes,
    )


class EncoderModel(nn.Module):
    """Torch's own encoder, whose attention is called from within another function of torch."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
        self.outputs = nn.Linear(8, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.inputs(inputs).unsqueeze(1) * torch.linspace(0, 1, 3, dtype=inputs.dtype)[:, None]
        result: Tensor = self.outputs(self.encoder(features).mean(1))
        return result


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    task: SupervisedTask
    trainable_layers: int = 2
    hyperparameters: dict[str, Any] = field(default_factory=lambda: OPTIMIZERS[2])


CASES = (
    *(
        Case(name=f"mlp-{index}", task=regression_task(), hyperparameters=each)
        for index, each in enumerate(OPTIMIZERS)
    ),
    Case(name="mlp-whole", task=regression_task(), trainable_layers=3),
    Case(name="gpt", task=gpt_task(), hyperparameters=OPTIMIZERS[0]),
    Case(name="gpt-dropout", task=gpt_task(dropout=0.2)),
    Case(name="gpt-snapshot", task=gpt_task(tied_weights=True, tied="snapshot")),
    Case(name="gpt-detach", task=gpt_task(tied_weights=True, tied="detach")),
    Case(name="gpt-tied-whole", task=gpt_task(tied_weights=True), trainable_layers=4),
    Case(name="resnet", task=images_task(resnet)),
    Case(name="resnet-whole", task=images_task(resnet), trainable_layers=5),
    Case(name="resnet-batch-statistics", task=images_task(resnet, frozen_statistics="batch")),
    Case(name="vit", task=images_task(vision_transformer)),
    Case(name="encoder", task=regression_task(model=lambda _: EncoderModel().double())),
    Case(name="dropout", task=regression_task(model=noisy_network)),
)


def begun(case: Case, num_sessions: int) -> list[Session]:
    """Sessions of different learning rates, weight decays and clipping."""
    sessions = []
    for number in range(num_sessions):
        hyperparameters = {**case.hyperparameters, **CLIPPING[number % len(CLIPPING)]}
        if "weight_decay" in hyperparameters:
            hyperparameters["weight_decay"] *= number
        session = begin_session(
            case.task,
            configured(number, **hyperparameters, learning_rate=0.01 * 1.2**number),
            trainable_layers=case.trainable_layers,
            device_plan=DevicePlan(device=CPU),
            root_seed=3,
        )
        sessions.append(session)
    return sessions


def batches_of(case: Case) -> Iterator[Batch]:
    return iter(case.task.training_batches(configured(), seed=3, skip_samples=0))


def factors_at(step: int, num_sessions: int) -> list[float]:
    return [1 / (1 + step * number / 10) for number in range(num_sessions)]


def learn_alone(sessions: list[Session], batch: Batch, factors: list[float]) -> list[tuple[Tensor, Tensor | None]]:
    pairs = zip(sessions, factors, strict=True)
    return [session.step(batch, rate_factor=factor) for session, factor in pairs]


def assert_twins(sessions: list[Session], twins: list[Session], *, tolerance: float = 1e-9) -> None:
    for session, twin in zip(sessions, twins, strict=True):
        ours, theirs = session.model.state_dict(), twin.model.state_dict()
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            # A bias before a norm has no gradient but rounding: only the others are its measure.
            torch.testing.assert_close(value, theirs[name], rtol=tolerance, atol=tolerance, msg=name)
        assert session.samples_seen == twin.samples_seen


def same(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return bool(torch.isclose(ours, theirs, rtol=1e-9, atol=0))


@pytest.mark.parametrize("joint", [False, True], ids=["each", "joint"])
@pytest.mark.parametrize("num_sessions", [1, 2, 4])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stacked_steps_follow_their_twins(case: Case, num_sessions: int, joint: bool) -> None:
    sessions, twins = begun(case, num_sessions), begun(case, num_sessions)
    stacked = StackedStep(sessions, joint=joint)
    batches = batches_of(case)
    first = next(batches)
    assert stacked.prove(first) is None
    for step in range(16 if num_sessions == 2 else 6):
        batch = first if step == 0 else next(batches)
        factors = factors_at(step, num_sessions)
        results = stacked.step(batch, factors)
        for ours, theirs in zip(results, learn_alone(twins, batch, factors), strict=True):
            assert same(ours[0], theirs[0])
            assert same(ours[1], theirs[1])
            assert not ours[0].requires_grad
    assert_twins(sessions, twins)
    assert [session.score() for session in sessions] == pytest.approx([twin.score() for twin in twins], rel=1e-9)


def test_gradients_lie_as_their_weights_do() -> None:
    # An optimizer that finds them transposed walks memory in leaps, and takes twice as long.
    sessions = begun(CASES[0], 2)
    StackedStep(sessions, joint=False).step(next(batches_of(CASES[0])), [1.0, 1.0])
    trained = [parameter for session in sessions for parameter in session.parameters]
    assert any(parameter.dim() == 2 for parameter in trained)
    for parameter in trained:
        assert parameter.grad is not None
        assert parameter.grad.is_contiguous()


def test_the_others_go_on_when_members_leave() -> None:
    case = CASES[0]
    sessions, twins = begun(case, 5), begun(case, 5)
    batches = batches_of(case)
    for staying in ([0, 1, 2, 3, 4], [1, 2, 4], [2, 4], [4]):
        rest, others = [sessions[index] for index in staying], [twins[index] for index in staying]
        stacked = StackedStep(rest)
        for _ in range(4):
            batch = next(batches)
            stacked.step(batch, [1.0] * len(rest))
            learn_alone(others, batch, [1.0] * len(rest))
    assert_twins(sessions, twins)


@pytest.mark.parametrize("releases", [True, False])
def test_who_left_goes_on_alone_and_moves_nobody(releases: bool) -> None:
    case = next(case for case in CASES if case.name == "resnet-batch-statistics")
    sessions, twins = begun(case, 3), begun(case, 3)
    batches = batches_of(case)
    batch = next(batches)
    stacked = StackedStep(sessions)
    stacked.step(batch, [1.0] * 3)
    learn_alone(twins, batch, [1.0] * 3)
    if releases:
        stacked.release()
        places = {name: value.data_ptr() for name, value in sessions[0].model.state_dict().items()}
        assert all(
            value.data_ptr() != places[name] and value.untyped_storage().nbytes() == value.nbytes
            for name, value in sessions[1].model.state_dict().items()
            if name.startswith(("blocks.2", "head")) or "running" in name
        )
    rest = StackedStep(sessions[1:])
    for _ in range(5):
        batch = next(batches)
        learn_alone(sessions[:1], batch, [1.0])
        rest.step(batch, [1.0, 1.0])
        learn_alone(twins, batch, [1.0] * 3)
    assert_twins(sessions, twins)


def test_a_stacked_session_saves_only_itself_and_is_restored_in_place() -> None:
    case = CASES[0]
    sessions, twins = begun(case, 7), begun(case, 1)
    stacked = StackedStep(sessions)
    batches = batches_of(case)
    early = [next(batches) for _ in range(3)]
    for batch in early:
        stacked.step(batch, [1.0] * 7)
        learn_alone(twins, batch, [1.0])
    checkpoint = sessions[0].checkpoint()
    sizes = []
    for contents in (checkpoint.model, twins[0].checkpoint().model):
        file = io.BytesIO()
        torch.save(contents, file)
        sizes.append(file.tell())
    assert sizes[0] == sizes[1]
    kept = copy.deepcopy(sessions[0].checkpoint())
    late = next(batches)
    stacked.step(late, [1.0] * 7)
    for session in sessions:
        session.restore(kept)
    results = stacked.step(late, [1.0] * 7)
    loss, norm = twins[0].step(late, rate_factor=1.0)
    assert same(results[0][0], loss)
    assert same(results[6][0], loss)
    assert same(results[0][1], norm)


class Reading(nn.Module):
    """Three layers, of which the last does what vmap cannot take, or what shows only in the numbers."""

    def __init__(self, fault: str, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 1)
        self.fault = fault
        self.scale = scale
        self.aside = [self.last.weight]
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.tanh(self.second(torch.tanh(self.first(inputs)))) * self.scale
        if self.fault == "item":
            self.second.eval()
            features = features * float(features.detach().sum())
        if self.fault == "write":
            self.seen += features.detach().sum()
        if self.fault == "aside":
            features = features * self.aside[0].detach()
        if self.fault == "replace":
            self.seen = self.seen + 1 + features.detach().mean()
        result: Tensor = self.last(features)
        return result


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("item", "RuntimeError: vmap: It looks like you're"),
        ("write", "RuntimeError: output with shape"),
        ("replace", "buffer seen"),
        ("scale", "configuration 1: the loss is"),
        # Seen only where the sessions' weights differ.
        ("aside", "configuration 1: the loss is"),
        # Torch draws in the order of memory, which is another where it is stacked.
        ("dropout behind a transposition", "configuration 0: the loss is"),
    ],
)
def test_what_cannot_be_stacked_is_found_and_nothing_is_changed(fault: str, reason: str) -> None:
    def model(configuration: Configuration) -> nn.Module:
        if fault.startswith("dropout"):
            return EncoderModel(dropout=0.2).double()
        scale = configuration.number + 1.0 if fault == "scale" else 1.0
        return Reading(fault, scale).double()

    case = Case(name=fault, task=regression_task(model=model))
    sessions, twins = begun(case, 3), begun(case, 3)
    before = [copy.deepcopy(dict(session.model.named_buffers())) for session in sessions]
    modes = [[module.training for module in session.model.modules()] for session in sessions]
    batches = batches_of(case)
    batch = next(batches)
    stacked = StackedStep(sessions)
    complaint = stacked.prove(batch)
    assert complaint is not None
    assert reason in complaint
    assert "\n" not in complaint
    for session, buffers in zip(sessions, before, strict=True):
        assert dict(session.model.named_buffers()) == buffers
        assert all(parameter.grad is None for parameter in session.parameters)
    assert [[module.training for module in session.model.modules()] for session in sessions] == modes
    stacked.release()
    for following in (batch, next(batches)):
        learn_alone(sessions, following, [1.0] * 3)
        learn_alone(twins, following, [1.0] * 3)
    assert_twins(sessions, twins, tolerance=0)


@pytest.mark.parametrize("name", ["resnet-whole", "resnet-batch-statistics", "dropout", "gpt-dropout"])
def test_a_proof_changes_nothing(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    sessions = begun(case, 3)
    stacked = StackedStep(sessions, joint=False)
    stacked.step(next(batches_of(case)), [1.0] * 3)
    before = [copy.deepcopy(session.model.state_dict()) for session in sessions]
    gradients = [[copy.deepcopy(each.grad) for each in session.parameters] for session in sessions]
    modes = [[module.training for module in session.model.modules()] for session in sessions]
    assert stacked.prove(next(batches_of(case))) is None
    for session, state, mode, grads in zip(sessions, before, modes, gradients, strict=True):
        now = session.model.state_dict()
        assert all(torch.equal(now[key], value) for key, value in state.items())
        assert [module.training for module in session.model.modules()] == mode
        for parameter, gradient in zip(session.parameters, grads, strict=True):
            assert torch.equal(parameter.grad, gradient)


def test_a_proof_puts_back_as_much_for_each_member_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back, calls = State.put_back, list[State]()

    def counted(state: State) -> None:
        calls.append(state)
        put_back(state)

    monkeypatch.setattr(State, "put_back", counted)
    case = next(case for case in CASES if case.name == "resnet-whole")
    for num_sessions in (2, 5):
        calls.clear()
        assert StackedStep(begun(case, num_sessions)).prove(next(batches_of(case))) is None
        assert len(calls) == 2 * num_sessions  # before its turn, and at the end


def test_sessions_of_different_models_or_samples_are_refused_untouched() -> None:
    def model(configuration: Configuration) -> nn.Module:
        width = 8 + configuration.number
        return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, width), nn.Linear(width, 1)).double()

    other = begun(Case(name="widths", task=regression_task(model=model)), 2)
    with pytest.raises(
        ModelError, match=r"configurations 0 and 1 cannot be stacked: their models differ in 1\.bias"
    ):
        StackedStep(other)
    assert all(parameter._base is None for session in other for parameter in session.parameters)
    ahead = begun(CASES[0], 2)
    ahead[1].step(next(batches_of(CASES[0])), rate_factor=1.0)
    with pytest.raises(ModelError, match="they have seen 0 and 8 samples; train them apart"):
        StackedStep(ahead)


def test_weights_that_overlap_in_memory_are_refused() -> None:
    def model(configuration: Configuration) -> nn.Module:
        built = perceptron(configuration)
        built[2].weight = nn.Parameter(built[1][1].weight.detach()[:1])
        return built

    with pytest.raises(ModelError, match=r"1\.1\.weight and 2\.weight of its model share memory"):
        StackedStep(begun(Case(name="views", task=regression_task(model=model)), 2))


class Recorded:
    """A prefix: what the first frozen layer of all sessions gives, computed once for a batch."""

    def __init__(self, sessions: list[Session]) -> None:
        self.first = sessions[0].model[0]
        self.computed = self.first.forward
        self.output: Tensor | None = None
        self.num_passes = 0
        for session in sessions:
            session.prefix = self
            session.model[0].forward = lambda _inputs: self.output

    def prepare(self, batch: Batch) -> None:
        self.num_passes += 1
        with torch.no_grad():
            self.output = self.computed(batch[0])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are compiled but for the last: what the compiler's passes leave is run by torch, without machine code."""
    own = torch.compile

    def without_machine_code(function: Any, *, fullgraph: bool, dynamic: bool, options: dict[str, Any]) -> Any:
        assert options == {"fallback_random": True}  # torch's own numbers, as here
        return own(function, fullgraph=fullgraph, dynamic=dynamic, backend="aot_eager_decomp_partition")

    monkeypatch.setattr(torch, "compile", without_machine_code)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_frozen_layers_may_be_handed_back_and_run_once(compiled: bool, traced: None) -> None:
    case = Case(name="dropout", task=regression_task(model=noisy_network))
    sessions, twins = begun(case, 3), begun(case, 3)
    prefix = Recorded(sessions)
    stacked = StackedStep(sessions, compiled=compiled)
    batches = batches_of(case)
    assert stacked.prove(next(batches)) is None
    prefix.num_passes = 0
    for _ in range(5):
        batch = next(batches)
        stacked.step(batch, [1.0] * 3)
        learn_alone(twins, batch, [1.0] * 3)
    assert prefix.num_passes == 5
    assert_twins(sessions, twins)


def short_noisy_network(_configuration: Configuration) -> nn.Module:
    return nn.Sequential(Block(5), nn.Linear(16, 1)).double()


# The compiler takes its time for each operation, of the frozen layers too: the last two layers are those of the cases above.
COMPILED_CASES = (
    Case(name="dropout", task=regression_task(model=short_noisy_network)),
    Case(name="mlp-0", task=regression_task(), hyperparameters=OPTIMIZERS[0]),
    Case(name="resnet", task=images_task(short_resnet)),
    Case(name="gpt", task=gpt_task(num_blocks=1), hyperparameters=OPTIMIZERS[0]),
)


@pytest.mark.parametrize("case", COMPILED_CASES[2:], ids=lambda case: case.name)
def test_traced_steps_follow_their_twins(case: Case, traced: None) -> None:
    assert_compiled_follow_their_twins(case)


# Machine code takes seconds for every few operations, most of them for reading torch's C++ headers: once each time for
# dropout, batch normalisation and a linear layer, the others with ``make torture``.
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case.name == "dropout" else pytest.mark.torture, id=case.name)
        for case in COMPILED_CASES
    ],
)
def test_steps_in_machine_code_follow_their_twins(case: Case) -> None:
    from torch._inductor import config as inductor_config

    # What the processor has is believed, and few kernels are worth no precompiled headers: 8 and 5 s, of 26 in all.
    with inductor_config.patch({"cpp.vec_isa_ok": True, "cpp_cache_precompile_headers": False}):
        assert_compiled_follow_their_twins(case)


def assert_compiled_follow_their_twins(case: Case) -> None:
    sessions, twins = begun(case, 3), begun(case, 3)
    stacked = StackedStep(sessions, compiled=True)
    batches = batches_of(case)
    assert stacked.prove(next(batches)) is None
    for step in range(10):
        batch = next(batches)
        stacked.step(batch, factors_at(step, 3))
        learn_alone(twins, batch, factors_at(step, 3))
    assert_twins(sessions, twins)


def test_bfloat16_is_stacked_to_its_own_rounding() -> None:
    task = regression_task(model=lambda configuration: perceptron(configuration).float())
    data = TensorDataset(*(each.float() for each in task.training_data.tensors))
    task = regression_task(
        model=lambda configuration: perceptron(configuration).float(), training_data=data, validation_data=data
    )
    plan = DevicePlan(device=CPU, compute_dtype=torch.bfloat16)
    sessions = [
        begin_session(task, configured(number), trainable_layers=2, device_plan=plan, root_seed=3)
        for number in range(3)
    ]
    stacked = StackedStep(sessions)
    batch = next(iter(task.training_batches(configured(), seed=3, skip_samples=0)))
    assert stacked.prove(batch) is None
    alone = [session.loss(batch) for session in sessions]
    for ours, theirs in zip(stacked.step(batch, [1.0] * 3), alone, strict=True):
        torch.testing.assert_close(ours[0], theirs.detach(), rtol=0.02, atol=0)
