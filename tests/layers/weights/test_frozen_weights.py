"""Frozen weights that are rounded or streamed: the same numbers, and next to no memory."""

from __future__ import annotations

import copy
import io
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from frostline.errors import ModelError, OptionError
from frostline.layers import Freezing, freeze, freezing_of, inspect_freezing, split_layers
from frostline.layers.weights.kept_parameter import KeptParameter
from frostline.layers.weights.weight_file import WeightFile, WeightFileWriter
from frostline.populations.prefix.recorded_outputs import Replay, StandIns
from frostline.populations.prefix.shared_weights import copy_sharing_frozen, share_frozen
from frostline.records import Configuration
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.tasks.models.gpt import GPT, GPTSettings
from tests.forks import Fork
from tests.layers.models import ALL_CASES, Case, gpt2, named, tokens

OPTIONS: list[dict[str, Any]] = [
    {"frozen_dtype": "bfloat16"},
    {"frozen_placement": "stream"},
    {"frozen_dtype": "bfloat16", "frozen_placement": "stream"},
]
WAYS = pytest.mark.parametrize("options", OPTIONS, ids=["bfloat16", "stream", "bfloat16 stream"])


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(5)), nn.Linear(8, 3))


def batch() -> Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def loss_of(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.square().mean()
    names = ("logits", "last_hidden_state", "pooler_output")
    return sum((output[name].square().mean() for name in names if name in output), torch.zeros(()))


def rounded_by_hand(model: nn.Module, freezing: Freezing) -> None:
    """Round what a plain freezing froze inside modules, in place."""
    inside = {
        id(parameter)
        for layer in freezing.frozen_layers
        for name in layer.modules
        for parameter in model.get_submodule(name).parameters()
    }
    outside: set[int] = set()
    frozen = {
        id(m) for layer in freezing.frozen_layers for n in layer.modules for m in model.get_submodule(n).modules()
    }
    for module in model.modules():
        if id(module) not in frozen:
            outside |= {id(parameter) for parameter in module.parameters(recurse=False)}
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.requires_grad and id(parameter) in inside - outside:
                parameter.copy_(parameter.bfloat16())


def steps(model: nn.Module, inputs: Any, num_steps: int = 2) -> list[Tensor]:
    """Return the losses of a few training steps and the weights they lead to."""
    torch.manual_seed(3)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    seen = []
    for _ in range(num_steps):
        loss = loss_of(model(**inputs) if isinstance(inputs, dict) else model(inputs))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.detach())
    return [*seen, *(each.detach().clone() for each in trained)]


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second)
    assert all(map(torch.equal, first, second))


def is_kept(model: nn.Module) -> bool:
    return any(isinstance(p, KeptParameter) or p.data.dtype == torch.bfloat16 for p in model.parameters())


@WAYS
@pytest.mark.parametrize("tied", ["detach", "snapshot"])
@pytest.mark.parametrize(**named([case for case in ALL_CASES if case.name != "single layer"]))
def test_training_is_bit_equal_to_that_of_a_model_rounded_by_hand(case: Case, tied: Any, options: Any) -> None:
    model = case.build()
    plain = copy.deepcopy(model)
    stack = split_layers(model, example_inputs=case.inputs())
    z = max(1, stack.num_layers // 2)
    try:
        reference = freeze(plain, trainable_layers=z, layers=stack, frozen_statistics="batch", tied=tied)
    except ModelError:
        pytest.skip("this model takes no snapshot")
    if "frozen_dtype" in options:
        rounded_by_hand(plain, reference)
    freezing = freeze(model, trainable_layers=z, layers=stack, frozen_statistics="batch", tied=tied, **options)
    kept = is_kept(model)
    assert_same(steps(model, case.inputs()), steps(plain, case.inputs()))
    assert is_kept(model) == kept
    freezing.restore()
    reference.restore()
    assert not is_kept(model)
    assert_same(list(model.state_dict().values()), list(plain.state_dict().values()))
    assert all(type(each) is nn.Parameter for each in model.parameters())
    assert not any({"forward", "_apply"} & set(module.__dict__) for module in model.modules())


@WAYS
@pytest.mark.parametrize("tied", [True, False])
def test_a_gpt_with_frozen_embedding_trains_as_if_rounded_by_hand(tied: bool, options: Any) -> None:
    torch.manual_seed(0)
    model = GPT(GPTSettings(vocabulary_size=64, context_length=16, width=16, num_blocks=3, num_heads=2, tied=tied))
    plain = copy.deepcopy(model)
    reference = freeze(plain, trainable_layers=1, tied="snapshot")
    if "frozen_dtype" in options:
        rounded_by_hand(plain, reference)
    freeze(model, trainable_layers=1, tied="snapshot", **options)
    assert_same(steps(model, tokens() % 64), steps(plain, tokens() % 64))


def test_a_tied_weight_that_is_trained_stays_whole() -> None:
    model = gpt2()
    freeze(model, trainable_layers=1, tied="detach", frozen_dtype="bfloat16")
    assert model.transformer.wte.weight.dtype == torch.float32
    assert model.transformer.wpe.weight.data.dtype == torch.bfloat16
    freeze(model, trainable_layers=1, tied="snapshot", frozen_dtype="bfloat16")
    assert model.transformer.wte.weight.data.dtype == torch.bfloat16
    assert model.lm_head.weight.dtype == torch.float32


def test_an_embedding_is_never_made_whole() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(1000, 8)
            self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.blocks(self.embed(ids))
            return out

    model = Model()
    freeze(model, trainable_layers=1, frozen_dtype="bfloat16")
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.dtype == torch.float32:
                largest = max(largest, result.numel())
            return result

    with Largest():
        model(torch.arange(5))
    assert 0 < largest < 8000


@WAYS
def test_a_frozen_module_that_runs_again_behind_trained_ones_passes_the_right_gradient(options: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Unlike a linear layer's, its weight itself is kept for backward, and not a view of it.
            self.twice = nn.LayerNorm(8)
            self.between = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.twice(torch.tanh(self.between(self.twice(x)))))
            return out

    torch.manual_seed(0)
    model = Model()
    nn.init.normal_(model.twice.weight)
    plain = copy.deepcopy(model)
    reference = freeze(plain, trainable_layers=2)
    if "frozen_dtype" in options:
        rounded_by_hand(plain, reference)
    freeze(model, trainable_layers=2, **options)
    assert_same(steps(model, batch()), steps(plain, batch()))


@WAYS
def test_modules_that_read_their_childrens_weights_compute_as_if_rounded_by_hand(options: Any) -> None:
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(3)]
    model = nn.Sequential(*blocks, nn.LSTM(8, 8, batch_first=True))
    plain = copy.deepcopy(model)
    reference = freeze(plain, trainable_layers=1)
    rounded_by_hand(plain, reference)
    if "frozen_dtype" not in options:
        model.load_state_dict(plain.state_dict())
    freeze(model, trainable_layers=1, **options)
    x = torch.randn(2, 5, 8)
    assert torch.equal(model(x)[0], plain(x)[0])
    with torch.no_grad():  # the fast path
        assert torch.equal(model.eval()(x)[0], plain.eval()(x)[0])


@WAYS
def test_a_recurrent_layer_can_be_frozen(options: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.recurrent(x)[0])
            return out

    torch.manual_seed(0)
    model = Model()
    plain = copy.deepcopy(model)
    reference = freeze(plain, trainable_layers=1)
    if "frozen_dtype" in options:
        rounded_by_hand(plain, reference)
    freezing = freeze(model, trainable_layers=1, **options)
    assert_same(steps(model, batch()), steps(plain, batch()))
    model.double()
    assert torch.equal(model(batch().double()), plain.double()(batch().double()))
    freezing.restore()
    assert torch.equal(model(batch().double()), plain(batch().double()))


@WAYS
def test_moving_to_another_type_changes_what_is_computed_in_and_not_what_is_kept(options: Any) -> None:
    model = mlp()
    freezing = freeze(model, trainable_layers=2, **options)
    weight = model[0][0].weight
    kept = weight.data.dtype
    expected = copy.deepcopy(model)
    expected_freezing = expected._frostline_freezing
    expected_freezing.restore()
    expected.double()
    model.double()
    assert model[0][0].weight is weight
    assert weight.data.dtype == kept
    assert weight.dtype == torch.float64
    assert torch.equal(model(batch().double()), expected(batch().double()))
    freezing.restore()
    assert weight.dtype == torch.float64


@WAYS
def test_loading_a_state_dict_fills_kept_weights(options: Any, tmp_path: Path) -> None:
    other = mlp()
    torch.manual_seed(9)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    if "frozen_dtype" in options:
        for parameter in other[:4].parameters():
            parameter.data = parameter.data.bfloat16().float()
    files = [None, tmp_path / "weights.safetensors"] if "frozen_placement" in options else [None]
    for file in files:
        model = mlp()
        freezing = freeze(
            model, trainable_layers=2, **(options if file is None else options | {"frozen_placement": file})
        )
        before = file.read_bytes() if file is not None else b""
        model.load_state_dict(other.state_dict())
        for _ in range(2):
            assert torch.equal(model(batch()), other(batch()))
        assert file is None or file.read_bytes() == before
        freezing.restore()
        assert torch.equal(model(batch()), other(batch()))


@WAYS
def test_saving_keeps_names_and_a_loaded_model_computes_the_same(options: Any) -> None:
    model = mlp()
    keys = list(model.state_dict())
    freeze(model, trainable_layers=2, **options)
    assert list(model.state_dict()) == keys
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    loaded = torch.load(memory, weights_only=False)
    assert torch.equal(loaded(batch()), model(batch()))
    loaded._frostline_freezing.restore()
    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded(batch()), model(batch()))


@WAYS
def test_copies_share_a_mapping_and_are_restored_alone(options: Any) -> None:
    model = mlp()
    freeze(model, trainable_layers=2, **options)
    copied = copy.deepcopy(model)
    shares = copied[0][0].weight.data_ptr() == model[0][0].weight.data_ptr()
    assert shares == ("frozen_placement" in options)
    expected = model(batch())
    copied._frostline_freezing.restore()
    assert copied[0][0].weight.dtype == torch.float32
    assert is_kept(model)
    assert torch.equal(copied(batch()), expected)
    assert torch.equal(model(batch()), expected)


@WAYS
def test_models_that_share_a_prefix_share_what_is_kept(options: Any) -> None:
    model, source = mlp(), mlp()
    freezing = freeze(model, trainable_layers=2, **options)
    source_freezing = freeze(source, trainable_layers=1, **options)
    expected = model(batch())
    twin = copy_sharing_frozen(freezing)
    assert twin[0][0].weight is model[0][0].weight
    assert torch.equal(twin(batch()), expected)
    share_frozen(freezing, source_freezing)
    assert model[0][0].weight is source[0][0].weight
    assert torch.equal(model(batch()), expected)
    assert is_kept(model)


@WAYS
def test_a_replayed_prefix_is_not_brought_to_memory(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    freezing = freeze(model, trainable_layers=2, **options)
    expected = model(batch())
    replay = Replay(freezing, StandIns())
    recording = replay.record(lambda: model(batch()))
    replay.load(recording)
    touched: list[Any] = []
    monkeypatch.setattr("frostline.layers.weights.widening.let_go", touched.append)
    assert torch.equal(model(batch()), expected)
    assert not touched
    replay.remove()
    assert torch.equal(model(batch()), expected)
    assert touched


@WAYS
def test_inspection_finds_nothing_wrong(options: Any) -> None:
    model = mlp()
    freeze(model, trainable_layers=2, **options)
    report = inspect_freezing(model, batch(), lambda model, inputs: model(inputs).square().mean())
    assert report.is_effective, report.findings


@WAYS
# Dynamo looks at the gradients of what enters the frames behind a graph break (torch 2.13).
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_computes_the_same(options: Any) -> None:
    model = mlp()
    freeze(model, trainable_layers=2, **options)
    expected = model(batch())
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    for _ in range(3):
        output = compiled(batch())
        assert torch.equal(output, expected)
        output.square().mean().backward()
    assert is_kept(model)


@WAYS
def test_a_freezing_inside_a_function_transform_leaves_nothing_behind(options: Any) -> None:
    model = mlp()
    freeze(model, trainable_layers=2, **options)
    trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(model, parameters, (batch(),))
        return output.square().mean()

    gradients = torch.func.grad(loss)(trained)
    model(batch()).square().mean().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad)
    assert is_kept(model)


@WAYS
def test_an_exception_in_a_frozen_module_leaves_its_weights_kept(options: Any) -> None:
    model = mlp()
    freeze(model, trainable_layers=2, **options)
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 7))
    assert model[0][0].weight.data.dtype == (torch.bfloat16 if "frozen_dtype" in options else torch.float32)
    model(batch())


@WAYS
def test_freezing_again_at_another_fidelity_starts_from_whole_weights(options: Any) -> None:
    model = mlp()
    original = copy.deepcopy(model)
    freeze(model, trainable_layers=1, frozen_placement="stream")
    freeze(model, trainable_layers=5, layers=split_layers(model, example_inputs=(batch(),)), **options)
    assert [is_kept(layer) for layer in model] == [True, False, False, False, False, False]
    freezing = freeze(model, trainable_layers=6, **options)
    assert freezing.streamed == ()
    assert not is_kept(model)
    if "frozen_dtype" not in options:
        assert_same(list(model.state_dict().values()), list(original.state_dict().values()))


@WAYS
def test_fake_weights_are_kept_without_a_file(options: Any, tmp_path: Path) -> None:
    file = tmp_path / "none.safetensors" if "frozen_placement" in options else None
    with FakeTensorMode():
        model = mlp()
        freezing = freeze(
            model, trainable_layers=2, **(options if file is None else options | {"frozen_placement": file})
        )
        model(torch.empty(4, 8)).square().mean().backward()
    assert len(freezing.streamed) == (8 if file is not None else 0)
    assert model[0][0].weight.data.dtype == (torch.bfloat16 if "frozen_dtype" in options else torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_an_ordinary_safetensors_file_and_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "frozen.safetensors"
    model = mlp()
    freezing = freeze(model, trainable_layers=2, frozen_placement=file)
    assert len(freezing.streamed) == 8
    held = load_file(file)
    assert {name: value.tolist() for name, value in held.items()} == {
        name: value.tolist() for name, value in mlp()[:4].state_dict().items()
    }
    written = file.stat().st_mtime_ns
    freeze(mlp(), trainable_layers=2, frozen_placement=file)
    assert file.stat().st_mtime_ns == written
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncate, "cannot be opened"),
        (_flip, "is damaged: its content has the hash"),
        (lambda path: path.write_bytes(b""), "cannot be opened"),
        (lambda path: path.write_text("no weights at all"), "cannot be opened"),
    ],
    ids=["truncated", "flipped byte", "empty", "something else"],
)
def test_a_spoilt_file_is_refused_and_the_model_left_alone(
    spoil: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "frozen.safetensors"
    freeze(mlp(), trainable_layers=2, frozen_placement=file)
    spoil(file)
    model = mlp()
    with pytest.raises(ModelError, match=words) as caught:
        freeze(model, trainable_layers=2, frozen_placement=file)
    assert str(file) in str(caught.value)
    assert not is_kept(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_file_of_another_model_is_refused_by_name_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "frozen.safetensors"
    freeze(mlp(), trainable_layers=2, frozen_placement=file)
    other = mlp()
    nn.init.zeros_(other[1][0].bias)
    with pytest.raises(
        ModelError, match=r"another model: their hash is [0-9a-f]{16}, and this model's [0-9a-f]{16}"
    ):
        freeze(other, trainable_layers=2, frozen_placement=file)
    with pytest.raises(ModelError, match=r"4.0.weight is missing in the file"):
        freeze(mlp(), trainable_layers=1, frozen_placement=file)
    with pytest.raises(ModelError, match=r"0.0.weight is float32 \(8, 8\) in the file, and bfloat16"):
        freeze(mlp(), trainable_layers=2, frozen_placement=file, frozen_dtype="bfloat16")


def test_an_open_file_is_installed(tmp_path: Path) -> None:
    plan = {
        f"{i}.0.{own}": (shape, torch.bfloat16)
        for i in range(4)
        for own, shape in (("weight", (8, 8)), ("bias", (8,)))
    }
    values = {name: torch.randn(shape) for name, (shape, _) in plan.items()}
    with WeightFileWriter(tmp_path / "f", plan, {}) as writer:
        for name, value in values.items():
            writer.write(name, value)
        file = writer.finish()
    model, plain = mlp(), mlp()
    plain.load_state_dict({name: value.bfloat16().float() for name, value in values.items()}, strict=False)
    freezing = freeze(model, trainable_layers=2, frozen_placement=file, frozen_dtype="bfloat16")
    assert torch.equal(model(batch()), plain(batch()))
    freezing.restore()
    assert torch.equal(model(batch()), plain(batch()))
    with pytest.raises(ModelError, match="another number of frozen layers"):
        freeze(model, trainable_layers=3, frozen_placement=file, frozen_dtype="bfloat16")


def test_a_writer_refuses_what_was_not_planned_and_leaves_nothing(tmp_path: Path) -> None:
    with WeightFileWriter(tmp_path / "f", {"a": ((2,), torch.float32)}, {}) as writer:
        with pytest.raises(ModelError, match="not planned"):
            writer.write("b", torch.zeros(2))
        with pytest.raises(ModelError, match=r"planned with shape \(2,\)"):
            writer.write("a", torch.zeros(3))
        with pytest.raises(ModelError, match="1 weights were not written, a first"):
            writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_odd_shapes_survive_a_file(tmp_path: Path) -> None:
    values = {
        "odd": torch.randn(3).bfloat16(),
        "none": torch.empty(0, 4),
        "one": torch.tensor(2.0),
        "far": torch.randn(3, 4).t(),
    }
    plan = {name: (tuple(each.shape), each.dtype) for name, each in values.items()}
    with WeightFileWriter(tmp_path / "f", plan, {}) as writer:
        for name, value in values.items():
            writer.write(name, value)
        writer.finish()
    opened = WeightFile.open(tmp_path / "f")
    assert all(torch.equal(opened.tensor(name), value) for name, value in values.items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no way to have a full disk")
def test_a_disk_without_room_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        import torch
        from torch import nn
        from pathlib import Path
        from frostline import freeze
        from frostline.errors import ModelError
        for file in (Path({str(tmp_path / "f")!r}), "stream"):
            model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 3))
            try:
                freeze(model, trainable_layers=1, frozen_placement=file)
            except ModelError as error:
                assert "cannot take 352.7 KiB of frozen weights" in str(error), error
                assert all(each.requires_grad for each in model.parameters())
                print("refused")
    """
    assert run_child(code).split() == ["refused", "refused"]
    assert list(tmp_path.iterdir()) == []


def run_child(code: str) -> str:
    # glibc keeps freed blocks of some megabytes for later, unless it is told to give them back.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, env=environment
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def write_half(path: Path) -> None:
    plan = {"a": ((1000,), torch.float32), "b": ((1000,), torch.float32)}
    with WeightFileWriter(path, plan, {}) as writer:
        writer.write("a", torch.zeros(1000))
        sys.stdout.write("writing\n")
        time.sleep(60)


def test_a_process_killed_while_it_writes_leaves_no_file_under_the_name(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    with Fork(processes, write_half, tmp_path / "f") as writing:
        assert writing.stdout.readline() == "writing\n"
        writing.kill()
        assert writing.wait() == -signal.SIGKILL
    assert not (tmp_path / "f").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@WAYS
def test_memory_stays_far_below_the_weights_while_steps_run(options: Any) -> None:
    # 16 layers of 4 MiB x 4 = 256 MiB.
    code = f"""
        import torch
        from torch import nn
        from frostline import freeze

        def resident():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

        model = nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(16)), nn.Linear(2048, 2))
        model(torch.randn(2, 2048)).sum()
        whole = resident()
        freeze(model, trainable_layers=1, **{options!r})
        highest = 0
        for layer in model[:-1]:
            layer.register_forward_hook(lambda *_: globals().__setitem__("highest", max(highest, resident())))
        for _ in range(3):
            model(torch.randn(2, 2048)).sum().backward()
        print(whole - highest)
    """
    saved = float(run_child(code))
    assert saved > (190 if "frozen_placement" in options else 90)


@WAYS
def test_a_weight_that_another_frozen_layer_uses_is_refused_by_name(options: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.third(self.second(self.first(x)) @ self.first.weight)
            return out

    model = Model()
    inputs = (batch(),)
    # Trained as soon as its user is, it is whole; frozen with its user, it would not be.
    layers = split_layers(model, example_inputs=inputs)
    assert layers.ties[0].kind == "use"
    freeze(model, trainable_layers=1, layers=layers, **options)
    loss_of(model(*inputs)).backward()
    merged = nn.Sequential(Model(), nn.Linear(8, 2))
    layers = split_layers(merged, unwrap=(Model,), example_inputs=inputs)
    with pytest.raises(ModelError, match=r"0.first.weight is frozen, and 0.third uses without holding it"):
        freeze(merged, trainable_layers=1, layers=layers, **options)
    assert not is_kept(merged)
    assert all(each.requires_grad for each in merged.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frozen_dtype": "float16"}, "frozen_dtype is 'float16': it must be None or 'bfloat16'"),
        ({"frozen_dtype": torch.float16}, "frozen_dtype is torch.float16"),
        ({"frozen_placement": "disk"}, "frozen_placement is 'disk': it must be 'device' or 'stream'"),
        ({"frozen_placement": "weights"}, "frozen_placement is 'weights': it must be 'device' or 'stream'"),
        ({"layers": split_layers(mlp()), "example_inputs": torch.zeros(1, 8)}, "both say what the layers are"),
    ],
)
def test_unknown_options_are_refused(options: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        freeze(mlp(), trainable_layers=1, **options)


def test_a_file_without_a_name_goes_with_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    freeze(mlp(), trainable_layers=2, frozen_placement="stream")
    assert list(tmp_path.iterdir()) == []


def test_a_task_hands_the_options_on_and_only_rounding_changes_its_fingerprint() -> None:
    task = digits_mlp()
    streamed = replace(task, frozen_placement="stream")
    rounded = replace(task, frozen_dtype="bfloat16", frozen_placement="stream")
    assert task.fingerprint == streamed.fingerprint
    assert rounded.fingerprint != task.fingerprint
    assert rounded.fingerprint == replace(rounded, frozen_dtype=torch.bfloat16).fingerprint
    model = task.build_model(Configuration(number=0, hyperparameters={}))
    rounded.freeze(model, trainable_layers=1)
    freezing = freezing_of(model)
    assert freezing is not None
    assert {each.data.dtype for each in freezing.streamed} == {torch.bfloat16}
