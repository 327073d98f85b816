"""Batch normalisation in the prefix: never the statistics of a new module, never a drift."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.errors import ModelError
from frostline.layers import freeze, freezing_of, split_layers
from tests.layers.models import ConvolutionalNet, Decoder, gpt2, images, resnet, tokens


def batches(number: int = 4) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [(2 + 3 * torch.randn(5, 3, 8, 8, generator=generator),) for _ in range(number)]


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], *names: str) -> None:
    for name in first:
        if not names or name.startswith(names):
            assert torch.equal(first[name], second[name]), name


def test_the_first_passes_in_training_mode_calibrate() -> None:
    model, reference = ConvolutionalNet(), ConvolutionalNet()
    reference.load_state_dict(model.state_dict())
    before = statistics(model)
    freezing = freeze(model, trainable_layers=2)
    momentum = model.norm.momentum
    # In evaluation before them the batch's statistics count, and leave nothing behind.
    model.eval()
    own = model(images())
    assert_same(before, statistics(model))
    model.train()
    data = batches(8)
    for (batch,) in data:
        assert freezing.needs_calibration
        model(batch)
    assert not freezing.needs_calibration
    assert not model.norm.training
    assert model.norm.momentum == momentum
    # As ``calibrate`` measures them on the same batches.
    calibrated = freeze(reference, trainable_layers=2)
    calibrated.calibrate(data)
    for name, value in statistics(reference).items():
        if not name.startswith("blocks.2"):
            torch.testing.assert_close(statistics(model)[name], value)
    fixed = statistics(model)
    model.train()
    model(images())
    assert_same(fixed, statistics(model), "norm", "blocks.0", "blocks.1")
    model.eval()
    assert not torch.allclose(model(images()), own)
    copied = copy.deepcopy(freeze(model, trainable_layers=1).model)
    for (batch,) in data:
        copied.train()
        copied(batch)
    assert not freezing_of(copied).needs_calibration
    assert freezing_of(model).needs_calibration
    freezing_of(model).restore()
    assert_same(before, statistics(model), "norm", "blocks.0", "blocks.1")


def test_evaluation_by_parts_of_the_model_calibrates_nothing() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)), nn.Linear(8, 3))
    freezing = freeze(model, trainable_layers=1)
    before = statistics(model)
    for mode in (False, True, False):
        model.train(mode)
        model[1](model[0](torch.randn(16, 6)))
        assert_same(before, statistics(model)) if not mode else None
        before = statistics(model)
    assert int(model[0][1].num_batches_tracked) == 1
    assert freezing.needs_calibration


def with_instances(*, affine: bool) -> nn.Sequential:
    parts = [
        nn.Sequential(
            nn.Conv1d(number, 4, 3), nn.InstanceNorm1d(4, affine=affine, track_running_stats=True), nn.ReLU()
        )
        for number in (1, 4)
    ]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalisation_that_tracks_statistics_is_calibrated_too(affine: bool) -> None:
    # Torch neither counts its batches, nor takes the plain average of them.
    model = with_instances(affine=affine)
    data = [1 + 3 * torch.randn(5, 1, 6) for _ in range(8)]
    before = statistics(model)
    freezing = freeze(model, trainable_layers=1)
    momentum = model[0][1].momentum
    freezing.calibrate(data)
    features = [model[0][0](batch) for batch in data]
    mean = torch.stack([x.mean((0, 2)) for x in features]).mean(0)
    variance = torch.stack([x.var(2).mean(0) for x in features]).mean(0)
    torch.testing.assert_close(model[0][1].running_mean, mean)
    torch.testing.assert_close(model[0][1].running_var, variance)
    assert model[0][1].momentum == momentum
    fixed = statistics(model)
    model(data[0])
    assert_same(fixed, statistics(model))
    # The second one sees what the first one gives, which is fixed here and each batch's own in first passes.
    freezing.restore()
    assert_same(before, statistics(model))
    freezing = freeze(model, trainable_layers=1)
    model.eval()
    model(data[0])
    assert_same(before, statistics(model))
    model.train()
    for batch in data:
        assert freezing.needs_calibration
        model(batch)
    assert not freezing.needs_calibration
    torch.testing.assert_close(model[0][1].running_mean, mean)
    torch.testing.assert_close(model[0][1].running_var, variance)


def test_instance_normalisation_that_was_trained_before_keeps_its_statistics() -> None:
    model = with_instances(affine=True)
    model(torch.randn(5, 1, 6))
    before = statistics(model)
    assert not freeze(model, trainable_layers=1).needs_calibration
    model(torch.randn(5, 1, 6))
    assert_same(before, statistics(model))


def without_parameters() -> nn.Sequential:
    """Inputs are normalised too, and the last one lies behind a layer that is trained."""
    norms = [nn.BatchNorm1d(number, affine=False) for number in (6, 8, 8)]
    first, second = (nn.Sequential(nn.Linear(number, 8), nn.Tanh()) for number in (6, 8))
    return nn.Sequential(norms[0], first, norms[1], second, norms[2], nn.Linear(8, 3))


def test_normalisations_without_parameters_between_frozen_layers_are_frozen_and_calibrated() -> None:
    model = without_parameters()
    data = [3 + 2 * torch.randn(16, 6) for _ in range(3)]
    before = statistics(model)
    freezing = freeze(model, trainable_layers=2)
    assert {"0", "2"} == {name for name in freezing.frozen_modules if name in ("0", "2", "4")}
    assert freezing.needs_calibration
    freezing.calibrate(data)
    torch.testing.assert_close(model[0].running_mean, torch.stack([each.mean(0) for each in data]).mean(0))
    fixed = statistics(model)
    seen: list[Tensor] = []
    model[3].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    for mode, batch in ((True, data[0]), (False, data[0]), (True, data[0][:2])):
        model.train(mode)
        model(batch)
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0][:2], seen[2])
    assert_same(fixed, statistics(model), "0", "2")
    assert int(model[4].num_batches_tracked) == 2
    freezing.restore()
    assert_same(before, statistics(model), "0", "2")
    assert model[0].training
    # Without any batch given the first ones are taken.
    freezing = freeze(model, trainable_layers=2)
    for _ in range(8):
        model(torch.randn(16, 6))
    assert not freezing.needs_calibration
    assert int(model[2].num_batches_tracked) == 8


def test_a_normalisation_without_parameters_that_is_registered_elsewhere_is_refused() -> None:
    class Elsewhere(nn.Module):
        def __init__(self, *, runs_early: bool) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
            norm = nn.BatchNorm1d(3, affine=False)
            self.norms = nn.ModuleList([norm])
            self.runs_early = runs_early

        def forward(self, x: Tensor) -> Tensor:
            x = self.norms[0](self.first(x)) if self.runs_early else self.first(x)
            x = self.head(self.second(x))
            return x if self.runs_early else self.norms[0](torch.cat([x, x[:, :1]], 1))

    early, late = Elsewhere(runs_early=True), Elsewhere(runs_early=False)
    freeze(late, trainable_layers=1)
    late(torch.randn(4, 3))
    assert int(late.norms[0].num_batches_tracked) == 1
    freeze(early, trainable_layers=1)
    with pytest.raises(
        ModelError, match=r"norms\.0 has no parameters and runs among the frozen layers.*affine=True"
    ):
        early(torch.randn(4, 3))
    freeze(early, trainable_layers=3)
    early(torch.randn(4, 3))


def test_statistics_that_have_seen_batches_are_kept() -> None:
    model = ConvolutionalNet()
    for (batch,) in batches():
        model(batch)
    before = statistics(model)
    freezing = freeze(model, trainable_layers=1)
    assert not freezing.needs_calibration
    model.train()
    model(images())
    assert_same(before, statistics(model))
    fresh = ConvolutionalNet()
    freeze(fresh, trainable_layers=1)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(images()), model(images()))
    freeze(fresh, trainable_layers=1)
    assert not any(module._load_state_dict_post_hooks for module in model.modules())


# Between the pieces torch looks at gradients, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_calibrates_itself_too() -> None:
    torch.compiler.reset()
    model, plain = ConvolutionalNet(), ConvolutionalNet()
    plain.load_state_dict(model.state_dict())
    freezing = freeze(model, trainable_layers=2)
    freeze(plain, trainable_layers=2)
    compiled = torch.compile(model, backend="eager")
    for (batch,) in batches(10):
        torch.testing.assert_close(compiled(batch), plain(batch))
    assert not freezing.needs_calibration
    for name, value in statistics(plain).items():
        torch.testing.assert_close(statistics(model)[name], value)
    # While it measures, torch runs this forward piece by piece; a new start compiles it whole.
    torch.compiler.reset()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(images()), model(images()))


def test_calibrated_statistics_are_the_averages_over_the_batches() -> None:
    model = ConvolutionalNet().double()
    data = [batch.double() for (batch,) in batches()]
    freezing = freeze(model, trainable_layers=3)
    freezing.calibrate([{"x": batch} for batch in data])
    features = [model.stem(batch) for batch in data]
    torch.testing.assert_close(model.norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in features]).mean(0))
    torch.testing.assert_close(model.norm.running_var, torch.stack([x.var((0, 2, 3)) for x in features]).mean(0))
    # The trained layers are none of calibration's business.
    assert int(model.blocks[2].norm.num_batches_tracked) == 0
    forward = freeze(model, trainable_layers=3)
    forward.calibrate(data[::-1], forward=lambda model, batch: model(batch))
    before = {name: value for name, value in statistics(model).items() if not name.startswith("blocks.2")}
    again = freeze(model, trainable_layers=3)
    again.calibrate(tuple(data))
    for name, value in before.items():
        torch.testing.assert_close(statistics(model)[name], value)


def test_calibration_runs_no_deeper_than_needed_and_disturbs_nothing() -> None:
    model = ConvolutionalNet()
    original_modes = [module.training for module in model.modules()]
    freezing = freeze(model, trainable_layers=3)
    runs: list[str] = []
    model.blocks[1].register_forward_hook(lambda *_: runs.append("trained"))
    model.blocks[0].register_forward_hook(lambda *_: runs.append("frozen"))
    modes = [module.training for module in model.modules()]
    momentum = model.norm.momentum
    random_state = torch.get_rng_state()
    before = statistics(model)
    freezing.calibrate(batches(3))
    assert runs == ["frozen"] * 3
    assert [module.training for module in model.modules()] == modes
    assert model.norm.momentum == momentum
    assert torch.equal(random_state, torch.get_rng_state())
    assert_same(before, statistics(model), "blocks.1", "blocks.2")
    freezing.restore()
    assert_same(before, statistics(model))
    assert [module.training for module in model.modules()] == original_modes


def test_calibrated_prefix_is_one_function_in_training_and_evaluation() -> None:
    # Defect 4, batch normalisation: running statistics drifted in training mode.
    model = ConvolutionalNet()
    freezing = freeze(model, trainable_layers=2)
    freezing.calibrate(batches())
    before = statistics(model)
    seen: list[Tensor] = []
    model.blocks[2].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    for mode, batch in ((True, images()), (False, images()), (True, images()[:1])):
        model.train(mode)
        model(batch)
    assert torch.equal(seen[0], seen[1])
    # Independent of the company in the batch, too.
    torch.testing.assert_close(seen[0][:1], seen[2])
    assert_same(before, statistics(model), "norm", "blocks.0", "blocks.1")
    assert int(model.blocks[2].norm.num_batches_tracked) == 2


def test_batch_statistics_are_those_of_the_paper() -> None:
    model, reference = ConvolutionalNet(), ConvolutionalNet()
    reference.load_state_dict(model.state_dict())
    freezing = freeze(model, trainable_layers=1, frozen_statistics="batch")
    assert not freezing.needs_calibration
    freezing.calibrate([])
    for (batch,) in batches():
        torch.testing.assert_close(model(batch), reference(batch))
    for each in (model, reference):
        each.eval()
    torch.testing.assert_close(model(images()), reference(images()))
    assert int(model.norm.num_batches_tracked) == 4
    model.train()
    assert model.norm.training
    assert not model.blocks[0].training
    # These were trained, not calibrated: they stay.
    freezing.restore()
    assert int(model.norm.num_batches_tracked) == 4


def test_a_calibration_that_fails_leaves_things_as_they_were() -> None:
    model = ConvolutionalNet()
    freezing = freeze(model, trainable_layers=2)
    before = statistics(model)
    with pytest.raises(ModelError, match="calibrate got no batch"):
        freezing.calibrate([])

    def broken() -> Any:
        yield from batches(1)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        freezing.calibrate(broken())
    assert_same(before, statistics(model))
    assert freezing.needs_calibration
    freezing.restore()
    with pytest.raises(ModelError, match="was restored: freeze the model again"):
        freezing.calibrate(batches())


def test_layers_out_of_order_are_named_when_calibrating() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
            self.first = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

    model, data = Backwards(), [torch.randn(4, 3)]
    with pytest.raises(ModelError, match="example_inputs"):
        freeze(model, trainable_layers=1).calibrate(data)
    freeze(model, trainable_layers=1, layers=split_layers(model, example_inputs=(data[0],))).calibrate(data)


def test_models_without_normalisation_statistics_need_no_batches() -> None:
    for model, inputs in ((Decoder(), tokens()), (gpt2(num_blocks=1), tokens())):
        freezing = freeze(model, trainable_layers=1)
        freezing.calibrate(iter(()))
        assert not freezing.needs_calibration
        model(inputs)


def test_refreezing_forgets_the_calibration() -> None:
    model = ConvolutionalNet()
    before = statistics(model)
    freeze(model, trainable_layers=1).calibrate(batches())
    freezing = freeze(model, trainable_layers=2)
    assert freezing.needs_calibration
    assert_same(before, statistics(model))
    freezing.calibrate(batches())
    freezing.calibrate(batches(1))
    freezing.restore()
    assert freezing_of(model) is None
    assert_same(before, statistics(model))


def test_a_resnet_of_transformers() -> None:
    model = resnet()
    data = [{"pixel_values": images(32)}]
    freezing = freeze(model, trainable_layers=1)
    freezing.calibrate(data)
    model.train()
    first, second = (model(**data[0], labels=torch.tensor([0, 1])) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    first.loss.backward()
    assert {name for name, each in model.named_parameters() if each.grad is not None} == {
        "classifier.1.weight",
        "classifier.1.bias",
    }
