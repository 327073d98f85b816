"""Small models, each with one of the things that make freezing go wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, VOCABULARY = 8, 11
# What make oldest installs; later ones have moved things, and call them otherwise.
OLDEST_TRANSFORMERS = any(library.version == "5.0.0" for library in distributions(name="transformers"))


def tokens() -> Tensor:
    return torch.arange(10).reshape(2, 5)


def images(size: int = 8) -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)


class Block(nn.Module):
    """A residual block whose dropout is a function that reads the block's own mode."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.dropout = dropout

    def forward(self, x: Tensor, *, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        y = F.dropout(self.mlp(self.norm(x)), self.dropout, training=self.training)
        return x + scale * (y if mask is None else y * mask)


class Trunk(nn.Module):
    def __init__(self, *, num_blocks: int, dropout: float) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(5, WIDTH))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dropout=dropout) for _ in range(num_blocks))
        self.final_norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        x = self.drop(x + self.position)
        for block in self.blocks:
            x = block(x, **options)
        return self.final_norm(x)


class Decoder(nn.Module):
    """A user's own decoder: nested lists, a position parameter, dropout of its own, tied or not."""

    def __init__(self, *, num_blocks: int = 3, dropout: float = 0.0, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.trunk = Trunk(num_blocks=num_blocks, dropout=dropout)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor, *, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        return self.head(self.trunk(self.embed(ids), scale=scale, mask=mask))


class ClassTokenModel(nn.Module):
    """The root holds a class token: the case that the method's first public code left trainable."""

    def __init__(self, *, num_blocks: int = 8, width: int = WIDTH) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.patches = nn.Linear(3, width)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(num_blocks))
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.blocks(x)[:, 0])


class UnusualOrder(nn.Module):
    """Registered from the output to the input; ``never`` does not run; ``twice`` runs at both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 2)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.never = nn.Linear(WIDTH, WIDTH)
        self.twice = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.late_shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.twice(x))
        x = torch.tanh(self.second(x * self.scale))
        return self.head(torch.tanh(self.twice(x))) + self.late_shift


class TiedByUse(nn.Module):
    """The output uses the embedding's weight without holding it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return F.linear(x, self.embed.weight)


class EmbedsWithHead(nn.Module):
    """A trained weight is used in the prefix, by the code of the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.head.weight)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class ConvolutionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.convolution(x)))


class ConvolutionalNet(nn.Module):
    """Batch normalisation in every layer but the head."""

    def __init__(self, *, num_blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(*(ConvolutionBlock(4) for _ in range(num_blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(F.relu(self.norm(self.stem(x))))).flatten(1))


class SharedDropout(nn.Module):
    """One dropout module, used in the prefix and in the suffix."""

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.third = nn.Linear(WIDTH, 2)
        self.drop = nn.Dropout(probability)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.drop(torch.tanh(self.second(self.drop(torch.tanh(self.first(x)))))))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, its inputs, and the layers it should have."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    layers: tuple[str, ...]


def _blocks(prefix: str, number: int) -> tuple[str, ...]:
    return tuple(f"{prefix}.{index}" for index in range(number))


def _transformers() -> Any:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    import transformers

    return transformers


_TEXT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": VOCABULARY,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def gpt2(*, num_blocks: int = 8, dropout: float = 0.1, tied: bool = True) -> Any:
    library = _transformers()
    return library.GPT2LMHeadModel(
        library.GPT2Config(
            n_layer=num_blocks,
            n_embd=WIDTH,
            n_head=2,
            n_positions=8,
            vocab_size=VOCABULARY,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            tie_word_embeddings=tied,
        )
    )


def _text_model(model: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        library = _transformers()
        built: nn.Module = getattr(library, model)(getattr(library, config)(**_TEXT, **options))
        return built

    return build


def _gpt2_bare() -> nn.Module:
    trunk: nn.Module = gpt2(num_blocks=2).transformer
    return trunk


def _vit() -> nn.Module:
    library = _transformers()
    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": WIDTH, "intermediate_size": 16}
    built: nn.Module = library.ViTForImageClassification(
        library.ViTConfig(num_hidden_layers=2, num_attention_heads=2, **sizes)
    )
    return built


def resnet(*, widths: tuple[int, ...] = (4, 4, 8, 8)) -> nn.Module:
    library = _transformers()
    config = library.ResNetConfig(
        embedding_size=4, hidden_sizes=list(widths), depths=[2, 2, 2, 2], layer_type="basic"
    )
    built: nn.Module = library.ResNetForImageClassification(config)
    return built


class Wrapped(nn.Module):
    """A user's module around a model of a known family."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = gpt2(num_blocks=2)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.inner(input_ids=input_ids).logits
        return logits


def _ids() -> dict[str, Any]:
    return {"input_ids": tokens()}


def _pixels() -> dict[str, Any]:
    return {"pixel_values": images()}


def _large_pixels() -> dict[str, Any]:
    return {"pixel_values": images(32)}


FAMILY_CASES = [
    Case(
        name="gpt2",
        build=gpt2,
        inputs=_ids,
        layers=("embedding", *_blocks("transformer.h", 8), "head"),
    ),
    Case(name="gpt2 bare", build=_gpt2_bare, inputs=_ids, layers=("embedding", "h.0", "h.1 ... head")),
    Case(
        name="gpt2 wrapped",
        build=Wrapped,
        inputs=_ids,
        layers=("embedding", *_blocks("inner.transformer.h", 2), "head"),
    ),
    Case(
        name="gpt_neox",
        build=_text_model("GPTNeoXForCausalLM", "GPTNeoXConfig"),
        inputs=_ids,
        layers=("embedding", *_blocks("gpt_neox.layers", 2), "head"),
    ),
    Case(
        name="llama",
        build=_text_model("LlamaForCausalLM", "LlamaConfig"),
        inputs=_ids,
        layers=("embedding", *_blocks("model.layers", 2), "head"),
    ),
    Case(
        name="llama tied",
        build=_text_model("LlamaForCausalLM", "LlamaConfig", tie_word_embeddings=True),
        inputs=_ids,
        layers=("embedding", *_blocks("model.layers", 2), "head"),
    ),
    Case(
        name="mistral",
        build=_text_model("MistralForCausalLM", "MistralConfig", num_key_value_heads=2),
        inputs=_ids,
        layers=("embedding", *_blocks("model.layers", 2), "head"),
    ),
    Case(
        name="bert",
        build=_text_model("BertModel", "BertConfig"),
        inputs=_ids,
        layers=("embedding", *_blocks("encoder.layer", 2), "head"),
    ),
    Case(
        name="bert masked",
        build=_text_model("BertForMaskedLM", "BertConfig"),
        inputs=_ids,
        layers=("embedding", *_blocks("bert.encoder.layer", 2), "head"),
    ),
    Case(
        name="bert classification",
        build=_text_model("BertForSequenceClassification", "BertConfig"),
        inputs=_ids,
        layers=("embedding", *_blocks("bert.encoder.layer", 2), "head"),
    ),
    Case(
        name="vit",
        build=_vit,
        inputs=_pixels,
        layers=("embedding", *_blocks("vit.encoder.layer" if OLDEST_TRANSFORMERS else "vit.layers", 2), "head"),
    ),
    Case(
        name="resnet-18",
        build=resnet,
        inputs=_large_pixels,
        layers=(
            "resnet.embedder.embedder.convolution",
            "resnet.embedder.embedder.normalization",
            *(name for stage in range(4) for name in _blocks(f"resnet.encoder.stages.{stage}.layers", 2)),
            "classifier.1",
        ),
    ),
]

OWN_CASES = [
    Case(
        name="sequential",
        build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)),
        inputs=lambda: {"input": torch.ones(2, 3, 4)},
        layers=("1", "3"),
    ),
    Case(
        name="single layer",
        build=lambda: nn.Linear(3, 2),
        inputs=lambda: {"input": torch.ones(2, 3)},
        layers=("Linear",),
    ),
    Case(
        name="decoder",
        build=lambda: Decoder(tied=True),
        inputs=lambda: {"ids": tokens()},
        layers=("embed", *_blocks("trunk.blocks", 3), "head"),
    ),
    Case(
        name="class token",
        build=lambda: ClassTokenModel(num_blocks=2),
        inputs=lambda: {"x": torch.ones(2, 4, 3)},
        layers=("patches", "blocks.0.0", "blocks.1.0", "head"),
    ),
    Case(
        name="tied by use",
        build=TiedByUse,
        inputs=lambda: {"ids": tokens()},
        layers=("embed", *_blocks("blocks", 3)),
    ),
    Case(
        name="convolutional",
        build=ConvolutionalNet,
        inputs=lambda: {"x": images()},
        layers=("stem", "norm", *_blocks("blocks", 3), "head"),
    ),
]
ALL_CASES = FAMILY_CASES + OWN_CASES


def named(cases: list[Case]) -> dict[str, Any]:
    """The arguments of ``pytest.mark.parametrize`` for cases."""
    return {"argnames": "case", "argvalues": cases, "ids": [case.name.replace(" ", "-") for case in cases]}
