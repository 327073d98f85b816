"""The groupings that the literature has for known architectures.

A family is one function: it gets a module and returns its units, or None if the module is not of the family. It
recognises its models by the names of their classes, so that nobody pays for a library that he does not use. A new
family is one function here, its name in ``FAMILIES``, and one case in the tests.

Transformers are grouped as in appendix F of arXiv 2504.10735: everything before the blocks | each block | everything
after them. Residual networks: convolution of the stem | its normalisation | each residual block | output projection;
with those eleven layers ResNet-18 has the fidelities 1 to 11 of the paper.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from frostline.layers.outline import Unit, child_name, has_parameters, joined, unit_of, units_of, walk

Family = Callable[[nn.Module, str], list[Unit] | None]


def is_a(module: nn.Module, package: str, class_name: str) -> bool:
    """Return whether the module's class is, or inherits from, ``class_name`` of ``package`` or of a package below it."""
    return any(
        parent.__name__ == class_name and f"{parent.__module__}.".startswith(f"{package}.")
        for parent in type(module).__mro__
    )


def _trunk(module: nn.Module, package: str, class_name: str) -> str | None:
    """The name, below ``module``, of the first module of that class; None if it holds none."""
    names = (name for name, candidate in module.named_modules() if is_a(candidate, package, class_name))
    return next(names, None)


def _around_blocks(model: nn.Module, name: str, blocks: str, *, last: tuple[str, ...] = ()) -> list[Unit] | None:
    """Embedding | each block of the list ``blocks`` | head, where registration follows execution.

    ``last`` names children that are registered early but run after the blocks.
    """
    parents = [".".join(blocks.split(".")[:depth]) for depth in range(len(blocks.split(".")) + 1)]
    opened = {child_name(name, parent) if parent else name for parent in parents}
    prefix = child_name(name, blocks)
    is_late = {child_name(name, child) for child in last}
    before, middle, after, late = [], [], [], []
    for atom in walk(model, name=name, opens=lambda name, _: name in opened):
        if atom.is_module and atom.name.startswith(f"{prefix}."):
            middle.append(Unit(name=atom.name, modules=(atom.name,)))
        elif atom.name in is_late:
            late.append(atom)
        elif middle:
            after.append(atom)
        else:
            before.append(atom)
    if not middle:
        return None
    after += late
    units = [unit_of("embedding", before)] if before else []
    if any(atom.is_module for atom in after):
        # A model without a projection of its own has only a final norm: no step of fidelity, so it joins the last block.
        is_projection = len(after) > 1 or not _is_norm(model.get_submodule(_below(name, after[0].name)))
        head = unit_of("head", after)
        return [*units, *middle, head] if is_projection else [*units, *middle[:-1], joined([middle[-1], head])]
    return [*units, *middle]


def _below(name: str, full_name: str) -> str:
    """The name of a module as seen from the module ``name``."""
    return full_name.removeprefix(name).removeprefix(".")


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _opened_to(model: nn.Module, name: str, opened: tuple[str, ...]) -> list[Unit]:
    """Units of a model whose named descendants are opened, ``nn.Sequential`` and ``nn.ModuleList`` too."""
    names = {child_name(name, each) if each else name for each in opened}
    atoms = walk(
        model,
        name=name,
        opens=lambda name, module: name in names or type(module) in (nn.Sequential, nn.ModuleList),
    )
    return units_of(atoms)


def gpt2(model: nn.Module, name: str) -> list[Unit] | None:
    """GPT-2 of transformers, with or without a head: 8 blocks are 10 layers."""
    trunk = _trunk(model, "transformers.models.gpt2", "GPT2Model")
    if trunk is None or not is_a(model, "transformers", "PreTrainedModel"):
        return None
    return _around_blocks(model, name, child_name(trunk, "h"))


def gpt_neox(model: nn.Module, name: str) -> list[Unit] | None:
    """GPT-NeoX of transformers: the Pythia models."""
    trunk = _trunk(model, "transformers.models.gpt_neox", "GPTNeoXModel")
    if trunk is None or not is_a(model, "transformers", "PreTrainedModel"):
        return None
    return _around_blocks(model, name, child_name(trunk, "layers"))


def llama_style(model: nn.Module, name: str) -> list[Unit] | None:
    """Decoders of transformers built like Llama (Mistral, Qwen, Gemma ...): known by their parts, not by their names."""
    if not is_a(model, "transformers", "PreTrainedModel"):
        return None
    for trunk, module in model.named_modules():
        parts = dict(module.named_children())
        if {"embed_tokens", "layers", "norm"} <= parts.keys() and isinstance(parts["layers"], nn.ModuleList):
            return _around_blocks(model, name, child_name(trunk, "layers"))
    return None


def bert(model: nn.Module, name: str) -> list[Unit] | None:
    """BERT and RoBERTa of transformers with any head; the pooler belongs to the head."""
    trunk = _trunk(model, "transformers.models.bert", "BertModel")
    if trunk is None:
        trunk = _trunk(model, "transformers.models.roberta", "RobertaModel")
    if trunk is None or not is_a(model, "transformers", "PreTrainedModel"):
        return None
    return _around_blocks(model, name, child_name(trunk, "encoder.layer"))


def vit(model: nn.Module, name: str) -> list[Unit] | None:
    """Vision transformer of transformers; its blocks moved from ``encoder.layer`` to ``layers`` in transformers 5."""
    trunk = _trunk(model, "transformers.models.vit", "ViTModel")
    if trunk is None or not is_a(model, "transformers", "PreTrainedModel"):
        return None
    blocks = "layers" if hasattr(model.get_submodule(trunk), "layers") else "encoder.layer"
    return _around_blocks(model, name, child_name(trunk, blocks))


def resnet(model: nn.Module, name: str) -> list[Unit] | None:
    """ResNet of transformers."""
    trunk = _trunk(model, "transformers.models.resnet", "ResNetModel")
    if trunk is None or not is_a(model, "transformers", "PreTrainedModel"):
        return None
    inside = ("embedder", "embedder.embedder", "encoder")
    stages = tuple(
        child_name(trunk, f"encoder.stages.{index}")
        for index in range(len(model.get_submodule(child_name(trunk, "encoder.stages"))._modules))
    )
    return _opened_to(model, name, ("", trunk, *(child_name(trunk, each) for each in inside), *stages))


def resnet_of_vision_libraries(model: nn.Module, name: str) -> list[Unit] | None:
    """ResNets of torchvision and timm. A deep stem, a Sequential in timm, stays one layer."""
    is_known = is_a(model, "torchvision.models.resnet", "ResNet") or is_a(model, "timm.models.resnet", "ResNet")
    if not is_known:
        return None
    opened = {name, *(child_name(name, f"layer{index}") for index in range(1, 5))}
    return units_of(walk(model, name=name, opens=lambda name, _: name in opened))


def vit_of_torchvision(model: nn.Module, name: str) -> list[Unit] | None:
    """Vision transformer of torchvision: class token, position embedding and patches are its embedding."""
    if not is_a(model, "torchvision.models.vision_transformer", "VisionTransformer"):
        return None
    return _around_blocks(model, name, "encoder.layers")


def vit_of_timm(model: nn.Module, name: str) -> list[Unit] | None:
    """Vision transformers of timm."""
    if not is_a(model, "timm.models.vision_transformer", "VisionTransformer"):
        return None
    return _around_blocks(model, name, "blocks")


def litgpt(model: nn.Module, name: str) -> list[Unit] | None:
    """LitGPT's GPT, which registers its output projection first."""
    if not is_a(model, "litgpt.model", "GPT"):
        return None
    return _around_blocks(model, name, "transformer.h", last=("lm_head",))


def flash_linear_attention(model: nn.Module, name: str) -> list[Unit] | None:
    """Models of flash-linear-attention (DeltaNet, gated DeltaProduct, GLA ...): known by their parts, not by their names."""
    if not is_a(model, "transformers", "PreTrainedModel"):
        return None
    for trunk, module in model.named_modules():
        if type(module).__module__.startswith("fla.models.") and hasattr(module, "layers"):
            return _around_blocks(model, name, child_name(trunk, "layers"))
    return None


FAMILIES: tuple[Family, ...] = (
    gpt2,
    gpt_neox,
    llama_style,
    bert,
    vit,
    resnet,
    resnet_of_vision_libraries,
    vit_of_torchvision,
    vit_of_timm,
    litgpt,
    flash_linear_attention,
)


def known_units(model: nn.Module, name: str) -> list[Unit] | None:
    """The units of a model of a known family, input first; None for any other. ``name`` is the model's own name."""
    if not has_parameters(model):
        return None
    for family in FAMILIES:
        units = family(model, name)
        if units:
            return units
    return None
