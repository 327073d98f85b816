from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from frostline.errors import TaskError
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.training.serial import train_serially
from frostline.training.supervised.criteria import Metric, loss_of, score_by
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import configured, job_of, perceptron, regression_task, settings_of

NUM_CLASSES = 3


class Precision:
    """Of class 1, over all that was seen, in the form of torcheval: no mean over batches comes to it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.found = 0

    def update(self, outputs: Tensor, targets: Tensor) -> Precision:
        of_class = outputs.argmax(1) == 1
        self.found += int(of_class.sum())
        self.right += int((of_class & (targets == 1)).sum())
        return self

    def compute(self) -> Tensor:
        return torch.tensor(self.right / max(1, self.found))


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs * self.scale, targets)


def labelled(num_examples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_examples, 5, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, torch.randint(NUM_CLASSES, (num_examples,), generator=generator))


def classification(**changes: Any) -> SupervisedTask:
    fields: dict[str, Any] = {
        "model": lambda configuration: perceptron(configuration).append(nn.Linear(1, NUM_CLASSES).double()),
        "training_data": labelled(50, 0),
        "validation_data": labelled(20, 1),
        "loss_function": nn.functional.cross_entropy,
    }
    return regression_task(**{**fields, **changes})


def outputs_on_validation(task: SupervisedTask) -> tuple[nn.Module, Tensor, Tensor]:
    model = task.build_model(configured()).eval()
    inputs, targets = task.validation_data.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        return model, model(inputs), targets


def test_a_metric_is_gathered_over_all_batches() -> None:
    metric = Precision()
    assert isinstance(metric, Metric)
    metric.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    task = classification(score_function=metric, direction="maximize", validation_batch_size=7)
    model, outputs, targets = outputs_on_validation(task)
    expected = Precision().update(outputs, targets).compute().item()
    for _ in range(2):
        assert task.score(model, task.validation_batches(configured())) == pytest.approx(expected)
    # The user's own is as it was.
    assert (metric.found, metric.right) == (1, 0)


def test_a_metric_of_torchmetrics_is_one() -> None:
    classifications = pytest.importorskip("torchmetrics.classification")
    metric = classifications.MulticlassAUROC(num_classes=NUM_CLASSES)
    task = classification(score_function=metric, direction="maximize", validation_batch_size=7)
    model, outputs, targets = outputs_on_validation(task)
    expected = metric(outputs, targets).item()
    assert task.score(model, task.validation_batches(configured())) == pytest.approx(expected)
    with pytest.raises(
        TaskError, match="the score of regression is a MulticlassAUROC, which is to maximize, but its"
    ):
        classification(score_function=metric)


def test_a_search_is_of_the_metric(device: torch.device) -> None:
    task = classification(score_function=Precision(), direction="maximize")
    jobs = [job_of(configured(number, learning_rate=0.1 * (number + 1)), layers=2) for number in range(3)]
    settings = settings_of(device)
    together = sorted(Population(task, jobs, settings, engine=Engine.SHARED).run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert evaluation.score == train_serially(task, job, settings).score
        assert evaluation.score is not None
        assert 0 <= evaluation.score <= 1


def test_scores_and_losses_that_are_several_numbers_are_refused() -> None:
    class Each(Precision):
        def compute(self) -> Tensor:
            return torch.zeros(3)

    outputs, targets = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(
        TaskError, match=r"^the score of words is a tensor of \[3\], but must be a tensor of one number: take"
    ):
        score_by(Each(), task="words").compute()
    # Broadcast over batches they would have come to some number.
    with pytest.raises(TaskError, match=r"^the score of words is a tensor of \[2\], but"):
        score_by(lambda outputs, targets: outputs.argmax(1) * 1.0, task="words").update(outputs, targets, size=2)
    with pytest.raises(TaskError, match=r"^the loss of words is a tensor of \[2\], but"):
        loss_of(nn.CrossEntropyLoss(reduction="none"), outputs, targets, task="words")
    with pytest.raises(TaskError, match=r"^the loss of words is a float, but must be a tensor of one number"):
        loss_of(lambda outputs, targets: 0.5, outputs, targets, task="words")
    assert loss_of(lambda outputs, targets: outputs.sum().reshape(1, 1), outputs, targets, task="words").dim() == 0


def test_outputs_need_not_hold_tensors() -> None:
    loss = loss_of(lambda outputs, targets: torch.tensor(outputs["seconds"]), {"seconds": 2.0}, (), task="words")
    assert loss.item() == 2


def test_a_loss_that_would_have_to_be_trained_is_refused() -> None:
    with pytest.raises(
        TaskError, match="loss_function of regression has parameters of its own, which nobody would"
    ):
        classification(loss_function=Learned())


@pytest.mark.parametrize("way", ["module", "partial", "module in a partial"])
def test_weights_of_classes_are_where_the_outputs_are(way: str, device: torch.device) -> None:
    weight = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
    loss = {
        "module": nn.CrossEntropyLoss(weight=weight),
        "partial": partial(nn.functional.cross_entropy, weight=weight),
        "module in a partial": partial(nn.CrossEntropyLoss(weight=weight)),
    }[way]
    task = classification(loss_function=loss)
    assert weight.device.type == "cpu"
    there = train_serially(task, job_of(configured()), settings_of(device))
    here = train_serially(task, job_of(configured()), settings_of())
    assert there.score == pytest.approx(here.score, rel=1e-9)
    assert here.score != train_serially(classification(), job_of(configured()), settings_of()).score
    assert weight.device.type == "cpu"


def test_a_loss_that_remembers_batches_is_refused() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("center", torch.zeros(1, dtype=torch.float64))

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.get_buffer("center").mul_(0.9).add_(outputs.detach().mean(0), alpha=0.1)
            return nn.functional.mse_loss(outputs - self.get_buffer("center"), targets)

    task = regression_task(loss_function=Centred(), score_function=nn.functional.mse_loss)
    with pytest.raises(TaskError, match="changes its buffer center as it runs"):
        train_serially(task, job_of(configured()), settings_of())
