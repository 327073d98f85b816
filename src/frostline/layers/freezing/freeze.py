"""Freeze the first layers of a model in place: one line in a user's script, undone by one more."""

from __future__ import annotations

import logging
import os
from typing import Literal, get_args

import torch
from torch import nn

from frostline.errors import ModelError, OptionError
from frostline.layers.cutting.boundary import suspended
from frostline.layers.cutting.cut import Cut
from frostline.layers.cutting.execution import Inputs
from frostline.layers.freezing.freezing import Freezing, FrozenStatistics, Tied, freezing_of, own_gradient_flags
from frostline.layers.freezing.snapshots import check_snapshots, without_snapshot
from frostline.layers.stack import LayerStack
from frostline.layers.trained_steps import split_into_steps
from frostline.layers.weights.frozen_weight_plan import FrozenPlacement, Keeping, prepare
from frostline.layers.weights.frozen_weights import fill_keeping
from frostline.layers.weights.weight_file import WeightFile
from frostline.wording import counted

logger = logging.getLogger(__name__)


def freeze(
    model: nn.Module,
    *,
    trainable_layers: int,
    example_inputs: Inputs | None = None,
    layers: LayerStack | None = None,
    tied: Tied = "detach",
    frozen_statistics: FrozenStatistics = "calibrated",
    frozen_dtype: torch.dtype | Literal["bfloat16"] | None = None,
    frozen_placement: FrozenPlacement | os.PathLike[str] | WeightFile = "device",
) -> Freezing:
    """Train only the last ``trainable_layers`` of ``model``: freeze the others in place, and say how to undo it.

    The forward signature, the keys of the state dict, copies, ``torch.save`` and ``torch.compile`` stay as they were.
    Frozen layers require no gradient, pass none on, lose the gradients they hold, and stay in evaluation mode whatever
    ``model.train()`` says, so that the prefix is the same function of its input at every step. Parameters that did not
    require a gradient before stay so in the trained layers too, and a layer of which none did joins the one before it,
    unless ``layers`` are given. A model that is frozen already is restored first.

    With ``example_inputs`` (a tensor, a tuple of positional or a mapping of keyword arguments) the layers stand in the
    order in which they run on these. Without, they are taken in the order of registration, and a forward pass that shows
    another one raises ModelError: the wrong end is never trained in silence. ``layers`` are the layers where
    ``split_layers`` has to be told how to find them, or they were merged (``merge``).

    ``tied`` is for a weight that a frozen and a trained layer share. "detach": it is trained, the frozen layer sees its
    current value, and gradients reach it only through the trained layer. "snapshot": the frozen layer keeps a copy of
    its initial value, under its name in the state dict, and so stays the same function while the weight is trained;
    ``load_state_dict`` fills the copy like any parameter. "auto": "snapshot" where a shared weight is trained and each of
    the layers holds it in a module of its own, and else "detach". With all layers trained nothing is cut, and with tied
    embeddings the layers n - 1 and n train the same embedding weight: in effect the same run.

    ``frozen_statistics`` is for batch normalisation in frozen layers and, without parameters, behind them. "calibrated":
    fixed statistics, in training and in evaluation; unless they have seen batches before, they are measured in the first
    eight passes in training mode, or at once by ``Freezing.calibrate``. "batch": those of each batch in training, running
    ones in evaluation.

    ``frozen_dtype`` "bfloat16" keeps the weights inside the frozen layers' modules rounded to it. The model computes in its
    own type: exactly as if they had been rounded beforehand and everything were frozen as ever. Each outermost frozen
    module is widened for its forward alone; embeddings never, only the rows looked up. Buffers, and parameters that no
    module of a frozen layer holds, stay as they are, as do types of 16 bits. The state dict shows the rounded values, and
    ``load_state_dict`` rounds.

    ``frozen_placement`` "stream" keeps these weights in a memory-mapped safetensors file, whence they are brought to the
    model's device for each module's forward, the next module's being read meanwhile. This changes no number. The file has
    no name, lies in the temporary folder (TMPDIR: on a real disk, for a file in memory saves none) and dies with the
    process. A ``pathlib.Path`` in the place of "stream" names the file: it is written there once, and later opened and
    read through to check that it holds this model's weights. Given an open ``WeightFile``, its weights are put in the place
    of the model's, of which only shape, type and device count. What is loaded over the weights of a named file stays in
    memory.

    A model from ``build_deferred`` gets its weights here, one at a time: with frozen weights rounded or in a file it is
    never in memory as a whole.

    Raises: FidelityError if ``trainable_layers`` is not a whole number in 1..n; ModelError if the model cannot be split,
        if ``layers`` are another model's, if nothing would be trained, if a weight that is to be kept small is used by
        another layer than holds it, or if the file cannot be written, is not whole or is another model's; OptionError
        for an unknown option. The model is unchanged then.
    Source: arXiv 2504.10735, section 3 and appendix F; tied weights: its figure 12.
    """
    placement: FrozenPlacement
    file: os.PathLike[str] | WeightFile | None
    if isinstance(frozen_placement, os.PathLike | WeightFile):
        placement, file = "stream", frozen_placement
    else:
        placement, file = frozen_placement, None
    check_options(
        tied=tied, frozen_statistics=frozen_statistics, frozen_dtype=frozen_dtype, frozen_placement=placement
    )
    keeping = Keeping(dtype=None if frozen_dtype is None else torch.bfloat16, placement=placement, file=file)
    if layers is None:
        stack = split_into_steps(model, example_inputs=example_inputs)
    elif example_inputs is not None:
        raise OptionError("layers and example_inputs both say what the layers are: give one of them.")
    else:
        stack = layers
        with suspended(model):
            _check_fits(model, stack)
    stack.check(trainable_layers)
    is_guessed = layers is None and example_inputs is None
    freezing = _frozen(
        Cut(model, stack, trainable_layers),
        keeping,
        tied=tied,
        frozen_statistics=frozen_statistics,
        is_order_guessed=is_guessed,
    )
    logger.info(
        "%s: the last %d of %s are trained, from %s on, in the order of %s",
        type(model).__name__,
        trainable_layers,
        counted(stack.num_layers, "layer"),
        freezing.trained_layers[0].name,
        "registration" if is_guessed else "execution" if layers is None else "the layers given",
    )
    return freezing


def _frozen(
    cut: Cut, keeping: Keeping, *, tied: Tied, frozen_statistics: FrozenStatistics, is_order_guessed: bool
) -> Freezing:
    """Freeze a model where it is cut, in the place of a freezing that may be in force; check first, then change."""
    model = cut.model
    previous = freezing_of(model)
    originals = own_gradient_flags(model)
    own_dtypes = {} if previous is None else previous.own_dtypes
    with suspended(model):
        if not any(originals[name] for layer in cut.trained_layers for name in layer.parameters):
            raise ModelError(
                f"no parameter of the last {counted(cut.trainable_layers, 'layer')} requires a gradient, so nothing "
                f"would be trained: call requires_grad_(True) on those to train, or train more layers."
            )
        if tied == "auto":
            is_trained = any(originals[tie.names[-1]] for tie in cut.crossing_ties)
            tied = "snapshot" if is_trained and without_snapshot(cut) is None else "detach"
        elif tied == "snapshot":
            check_snapshots(cut)
        kept = prepare(cut, keeping, has_snapshots=tied == "snapshot", own_dtypes=own_dtypes)
    if previous is not None:
        previous.restore()
    fill_keeping(cut, kept)
    return Freezing(
        cut, tied=tied, frozen_statistics=frozen_statistics, kept=kept, is_order_guessed=is_order_guessed
    )


def check_options(
    *, tied: str, frozen_statistics: str, frozen_dtype: torch.dtype | str | None, frozen_placement: str
) -> None:
    """Raise OptionError unless these are options of ``freeze``."""
    for name, value, allowed in (
        ("tied", tied, get_args(Tied)),
        ("frozen_statistics", frozen_statistics, get_args(FrozenStatistics)),
        ("frozen_placement", frozen_placement, get_args(FrozenPlacement)),
        ("frozen_dtype", None if frozen_dtype is torch.bfloat16 else frozen_dtype, (None, "bfloat16")),
    ):
        if value not in allowed:
            raise OptionError(f"{name} is {value!r}: it must be {' or '.join(map(repr, allowed))}.")


def _check_fits(model: nn.Module, stack: LayerStack) -> None:
    """Raise ModelError unless the stack's layers own exactly the model's parameters."""
    present = {name: id(each) for name, each in model.named_parameters(remove_duplicate=False)}
    owned = [name for layer in stack.layers for name in layer.parameters]
    modules = {name for name, _ in model.named_modules(remove_duplicate=False)}
    lacking = [name for name in owned if name not in present]
    lacking += [name for layer in stack.layers for name in layer.modules if name not in modules]
    if lacking:
        raise ModelError(
            f"these layers are of another model: {type(model).__name__} has no {lacking[0]!r}. Split it again."
        )
    identities = {present[name] for name in owned}
    left = [name for name, identity in present.items() if identity not in identities]
    if left or len(identities) < len(owned):
        reason = f"own no {left[0]!r}" if left else "count a weight twice that is tied here"
        raise ModelError(f"these layers are of another model: they {reason}. Split {type(model).__name__} again.")
