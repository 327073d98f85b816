"""Logits that are never held whole: the same numbers as with whole ones, and less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from frostline.costs.predicted.prediction import predict_step
from frostline.costs.predicted.true_peak import PeakBytes
from frostline.errors import TaskError
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration
from frostline.search.spaces.space import SearchSpace
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.training.losses.lazy_logits import LazyLogits, lazy_output
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import configuration_of, gpt, jobs_of, token_case
from tests.training.cases import settings_of

CPU = torch.device("cpu")
CONFIGURATION = Configuration(number=0, hyperparameters={"learning_rate": 0.1})
VOCABULARY = 301
# More tokens than there are in one chunk.
TOKENS = torch.randint(VOCABULARY, (8, 40), generator=torch.Generator().manual_seed(0))
HIDDEN = torch.randn(8, 40, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def shifted_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits[..., :-1, :].contiguous().view(-1, VOCABULARY), targets[:, 1:].flatten()
    )


def own(**changes: Any) -> nn.Module:
    settings = {"num_blocks": 2, "width": 16, "num_heads": 2, "context_length": 40, "vocabulary_multiple": 1}
    return GPT(GPTSettings(vocabulary_size=VOCABULARY, **{**settings, **changes}))


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends, **dropout))


def of_llamas_kind(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ends = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    config = getattr(transformers, f"{kind}Config")(**sizes, **ends, max_position_embeddings=40)
    model: nn.Module = getattr(transformers, f"{kind}ForCausalLM")(config)
    return model


def classifier() -> nn.Module:
    embedding = nn.Sequential(nn.Embedding(VOCABULARY, 4), nn.Flatten(), nn.Linear(160, 16), nn.Tanh())
    return nn.Sequential(embedding, nn.Sequential(nn.Linear(16, 16), nn.Tanh()), nn.Linear(16, VOCABULARY))


class WithLabels(Dataset[Any]):
    """Inputs of which the model makes a loss of its own beside its logits."""

    def __len__(self) -> int:
        return len(TOKENS)

    def __getitem__(self, index: int) -> Any:
        return {"input_ids": TOKENS[index], "labels": TOKENS[index]}, TOKENS[index]


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor], Dataset[Any] | None]] = {
    "own": (own, next_token_loss, None),
    "own, tied": (lambda: own(tied=True), next_token_loss, None),
    "GPT2": (gpt2, shifted_loss, None),
    "GPT2 with labels": (gpt2, shifted_loss, WithLabels()),
    "GPTNeoX": (lambda: of_llamas_kind("GPTNeoX"), shifted_loss, None),
    "Llama": (lambda: of_llamas_kind("Llama"), shifted_loss, None),
    "classifier": (classifier, lambda logits, targets: nn.CrossEntropyLoss()(logits, targets[:, 0]), None),
}


def task_of(name: str, *, dtype: torch.dtype = torch.float64, **changes: Any) -> SupervisedTask:
    model, loss, data = MODELS[name]
    data = data or TensorDataset(TOKENS, TOKENS)
    fields: dict[str, Any] = {
        "name": "language",
        "model": lambda _: model().to(dtype),
        "training_data": data,
        "validation_data": data,
        "loss_function": loss,
        "space": SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1.0)}),
        "defaults": {"learning_rate": 0.1},
        "full_samples": 8,
        "batch_size": 8,
        "data_fingerprint": "drawn",
    }
    return SupervisedTask(**{**fields, **changes})


def built(task: SupervisedTask, trainable_layers: int | None) -> nn.Module:
    torch.manual_seed(0)
    model = task.build_model(CONFIGURATION)
    if trainable_layers is not None:
        task.freeze(model, trainable_layers=trainable_layers)
    return model


def first_batch(task: SupervisedTask) -> Any:
    return next(iter(task.training_batches(CONFIGURATION, seed=0, skip_samples=0)))


def learned(task: SupervisedTask, model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the first batch and its gradients."""
    loss = task.loss(model, first_batch(task))
    loss.backward()
    return loss.detach(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("trainable_layers", [1, 2, None])
@pytest.mark.parametrize("name", MODELS)
def test_loss_gradients_and_score_are_those_of_whole_logits(name: str, trainable_layers: int | None) -> None:
    plain, chunked = task_of(name), task_of(name, chunked_logits=True)
    model = built(plain, trainable_layers)
    expected = learned(plain, copy.deepcopy(model))
    found = learned(chunked, copy.deepcopy(model))
    assert found[1].keys() == expected[1].keys()
    assert found[1]
    assert_equal(found, expected)
    with torch.no_grad():
        batches = [first_batch(plain)]
        assert chunked.score(model, batches) == pytest.approx(plain.score(model, batches), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_of_a_loss_are_never_saved_for_its_backward_pass(name: str) -> None:
    saved = {}
    for chunked in (False, True):
        task = task_of(name, chunked_logits=chunked)
        model = built(task, 1)
        with SavedTensors(ignored=model.parameters()) as tensors:
            loss = task.loss(model, first_batch(task))
            saved[chunked] = tensors.num_bytes()
        assert loss.requires_grad
    num_rows = 8 if name == "classifier" else 8 * 39
    assert saved[False] - saved[True] >= 0.99 * num_rows * VOCABULARY * 8


def test_autocast_gives_what_it_gives_with_whole_logits_to_rounding() -> None:
    plain, chunked = (task_of("own", dtype=torch.float32, chunked_logits=each) for each in (False, True))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = learned(plain, built(plain, 2)), learned(chunked, built(chunked, 2))
    assert found[0].dtype == expected[0].dtype == torch.float32
    # A loss rounded to bfloat16, as torch's own would be, is up to 0.016 away.
    assert float(found[0]) == pytest.approx(float(expected[0]), abs=2e-3)
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm() / gradient.norm()) < 0.02, name


def test_a_step_over_a_large_vocabulary_holds_a_quarter_of_the_memory() -> None:
    inputs = torch.randint(8000, (16, 64), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, inputs)
    peaks, losses = {}, {}
    for chunked in (False, True):
        task = task_of(
            "own",
            model=_large,
            training_data=data,
            validation_data=data,
            chunked_logits=chunked,
            full_samples=16,
            batch_size=16,
        )
        model = built(task, 1)
        with PeakBytes(CPU) as peak:
            loss = task.loss(model, (inputs, inputs))
            loss.backward()
        with PeakBytes(CPU) as score_peak, torch.no_grad():
            task.score(model, [(inputs, inputs)])
        peaks[chunked], losses[chunked] = (peak.bytes, score_peak.bytes), loss.detach()
    whole = inputs.numel() * 8000 * 4
    assert peaks[False][0] > 2 * whole
    assert peaks[True][0] < peaks[False][0] / 4
    assert peaks[True][1] < whole / 4
    assert float(losses[True]) == pytest.approx(float(losses[False]), rel=1e-6)


def _large(_configuration: Configuration) -> nn.Module:
    return GPT(GPTSettings(vocabulary_size=8000, num_blocks=1, width=16, num_heads=2, context_length=64))


def cross_entropy(logits: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, -2), TOKENS.flatten())


class OwnLoss(torch.autograd.Function):
    """What goes past ``__torch_function__``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        return (logits * logits).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        result: Tensor = gradient * 2 * logits / logits.numel()
        return result


def after_a_look(logits: Tensor) -> Tensor:
    with torch.no_grad():
        assert logits.argmax(-1).shape == TOKENS.shape
    return cross_entropy(logits)


def written_into(logits: Tensor) -> Tensor:
    view = logits[:, :-1]
    logits.mul_(2.0)
    return functional.cross_entropy(view.flatten(0, 1), TOKENS[:, 1:].flatten())


def tripled(logits: Tensor) -> Tensor:
    logits.register_hook(lambda gradient: 3 * gradient)
    return cross_entropy(logits)


LEAN: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": cross_entropy,
    "view": lambda x: functional.cross_entropy(x.view(-1, x.size(-1)), TOKENS.view(-1)),
    "view, two steps": lambda x: functional.cross_entropy(x.view(4, 80, -1)[1], TOKENS.view(4, 80)[1]),
    "a mask": lambda x: functional.cross_entropy(x[TOKENS > 100], TOKENS[TOKENS > 100]),
    "positions": lambda x: functional.cross_entropy(
        x[:, torch.tensor([3, 5])].flatten(0, 1), TOKENS[:, [3, 5]].flatten()
    ),
    "sum": lambda x: nn.CrossEntropyLoss(reduction="sum")(
        x[..., :-1, :].reshape(-1, VOCABULARY), TOKENS[:, 1:].flatten()
    ),
    "ignored": lambda x: functional.cross_entropy(
        x.flatten(0, 1), TOKENS.flatten(), ignore_index=int(TOKENS[0, 0])
    ),
    "single precision": lambda x: cross_entropy(x.float()).double(),
    "twice": lambda x: cross_entropy(x) + functional.cross_entropy(x[:, 3], TOKENS[:, 3]),
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: (
        functional.cross_entropy(x.flatten(0, 1), TOKENS.flatten(), reduction="none").square().mean()
    ),
    "label smoothing": lambda x: functional.cross_entropy(x.flatten(0, 1), TOKENS.flatten(), label_smoothing=0.1),
    "class weights": lambda x: functional.cross_entropy(
        x.flatten(0, 1), TOKENS.flatten(), weight=torch.arange(VOCABULARY).double()
    ),
    "probabilities": lambda x: functional.cross_entropy(
        x.flatten(0, 1), functional.one_hot(TOKENS.flatten(), VOCABULARY).double()
    ),
    "classes in the middle": lambda x: functional.cross_entropy(x.transpose(1, 2), TOKENS),
    "some classes": lambda x: functional.cross_entropy(
        x[..., :200].flatten(0, 1), TOKENS.flatten().clamp(max=199)
    ),
    "classes folded": lambda x: x.view(-1, 7).logsumexp(-1).mean(),
    "one example": lambda x: functional.cross_entropy(x[0, 0], TOKENS[0, 0]),
    "softmax": lambda x: x.softmax(-1).square().sum(),
    "arithmetic": lambda x: cross_entropy(2 * x + 1),
    "a second term": lambda x: cross_entropy(x) + x.logsumexp(-1).square().mean(),
    "own autograd function": lambda x: OwnLoss.apply(x),
    "torch.func": lambda x: torch.func.vmap(functional.cross_entropy)(x, TOKENS).mean(),
    "a look without gradient": after_a_look,
    "written into": written_into,
    "a hook": tripled,
}


def results(loss: Callable[[Tensor], Tensor], *, lazy: bool, frozen: str) -> tuple[Any, list[Tensor | None]]:
    torch.manual_seed(0)
    projection = nn.Linear(16, VOCABULARY).double()
    projection.weight.requires_grad_(frozen != "weight")
    hidden = HIDDEN.clone().requires_grad_(frozen != "hidden")
    if lazy:
        with lazy_output(projection):
            logits = projection(hidden)
        assert isinstance(logits, LazyLogits)
    else:
        logits = projection(hidden)
    value = loss(logits)
    value.backward()
    return (value.detach(), getattr(logits, "is_computed", True)), [
        each.grad for each in (hidden, projection.weight, projection.bias)
    ]


@pytest.mark.parametrize("frozen", ["nothing", "hidden", "weight"])
@pytest.mark.parametrize("name", [*LEAN, *WHOLE])
def test_whatever_is_done_with_lazy_logits_comes_out_as_with_real_ones(name: str, frozen: str) -> None:
    loss = LEAN.get(name) or WHOLE[name]
    (expected, _), gradients = results(loss, lazy=False, frozen=frozen)
    (found, is_whole), found_gradients = results(loss, lazy=True, frozen=frozen)
    tolerance = 1e-6 if name == "single precision" else 1e-10
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-12)
    torch.testing.assert_close(
        found_gradients, gradients, rtol=tolerance, atol=1e-9 if tolerance > 1e-9 else 1e-12
    )
    assert is_whole == (name in WHOLE)


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        results(
            lambda x: functional.cross_entropy(x.flatten(0, 1), TOKENS.flatten() + 100), lazy=True, frozen="hidden"
        )


def test_a_step_can_be_predicted() -> None:
    plain, chunked = (
        predict_step(task_of("own", model=lambda _: own(), chunked_logits=each), trainable_layers=1)
        for each in (False, True)
    )
    assert plain.memory.activations - chunked.memory.activations >= 0.99 * TOKENS.numel() * VOCABULARY * 4


def test_a_model_gives_real_logits_outside_its_loss_and_after_a_loss_that_raised() -> None:
    def failing(_logits: Tensor, _targets: Tensor) -> Tensor:
        raise ArithmeticError

    task = task_of("own", chunked_logits=True, loss_function=failing)
    model = built(task, 1)
    with pytest.raises(ArithmeticError):
        task.loss(model, first_batch(task))
    with pytest.raises(IndexError):
        task.loss(model, (TOKENS + VOCABULARY, TOKENS))
    assert type(model(TOKENS)) is Tensor
    assert all("forward" not in vars(module) for module in model.head.modules())


class Scaled(nn.Module):
    """A model that computes with its own logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = 0.5 * self.layers(x)
        return scaled


class Convolving(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 1, 2), nn.Flatten()))


@pytest.mark.parametrize(
    ("model", "message"),
    [(Scaled, "no effect on the model of language"), (Convolving, "plain nn.Linear as the model's output")],
)
def test_a_model_that_cannot_profit_is_refused(model: type[nn.Module], message: str) -> None:
    data = TensorDataset(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64))
    task = task_of(
        "classifier",
        chunked_logits=True,
        model=lambda _: model(),
        training_data=data,
        validation_data=data,
        loss_function=functional.cross_entropy,
    )
    network = built(task, 1)
    with pytest.raises(TaskError, match=message):
        task.loss(network, first_batch(task))
    with pytest.raises(TaskError, match="leave chunked_logits out"):
        task.score(network, [first_batch(task)])


def test_a_gradient_of_a_gradient_is_refused() -> None:
    def penalised(hidden: Tensor, loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, hidden, create_graph=True)[0].square().sum()

    projection, hidden = nn.Linear(16, VOCABULARY).double(), HIDDEN.clone().requires_grad_()
    with lazy_output(projection):
        logits = projection(hidden)
    with pytest.raises(TaskError, match="gradient of a gradient"):
        penalised(hidden, cross_entropy(logits))


def test_the_fingerprint_knows_chunks() -> None:
    assert task_of("own").fingerprint != task_of("own", chunked_logits=True).fingerprint


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
def test_a_population_follows_its_serial_twins(engine: Engine, tied: bool) -> None:
    case = token_case("gpt", gpt(tied=tied), layers=(2,))
    task = case.task(chunked_logits=True)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=40)
    settings = settings_of()
    together = sorted(Population(task, jobs, settings, engine=engine).run(), key=lambda each: each.number)
    assert all(each.cost.population == len(jobs) for each in together)
    for evaluation, job in zip(together, jobs, strict=True):
        alone = train_serially(task, job, settings)
        whole = train_serially(case.task(), job, settings)
        assert alone.score == pytest.approx(whole.score, rel=1e-9)
        assert evaluation.score == pytest.approx(alone.score, rel=1e-9)
