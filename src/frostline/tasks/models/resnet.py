"""A ResNet for small images: a stem, residual blocks of rising width, a head.

Source: He et al. 2016, arXiv:1512.03385, section 4.2 (the CIFAR variant: a 3x3 stem without pooling), with a
projection on the skip connection where the shape changes. Layers: the stem, each block, the head.

Axes: B batch, C channels, Y and X the image's rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from frostline.errors import OptionError
from frostline.tasks.checks import require_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetSettings:
    """The architecture of a small ResNet: one residual block per entry of ``widths``.

    A block whose width differs from the one before halves the image.
    Raises: OptionError if the numbers do not make a model.
    """

    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 128, 128)
    num_channels: int = 1
    num_classes: int = 10

    def __post_init__(self) -> None:
        if not self.widths:
            raise OptionError("widths is empty, but must name the width of at least one block.")
        for width in self.widths:
            require_positive("a width", width)
        require_positive("num_channels", self.num_channels)
        require_positive("num_classes", self.num_classes)


class Stem(nn.Module):
    """The first convolution, its norm and its non-linearity."""

    def __init__(self, num_channels: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, of the images' size."""
        return functional.relu(self.norm(self.convolution(images)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection, which projects where the width changes."""

    def __init__(self, width_before: int, width: int) -> None:
        super().__init__()
        stride = 1 if width_before == width else 2
        self.convolution_1 = nn.Conv2d(width_before, width, 3, stride=stride, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(width)
        self.convolution_2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(width_before, width, 1, stride=stride, bias=False) if stride == 2 else None
        self.shortcut_norm = nn.BatchNorm2d(width) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features; the image is halved where the width changes."""
        residual = functional.relu(self.norm_1(self.convolution_1(x)))
        residual = self.norm_2(self.convolution_2(residual))
        skipped = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            skipped = self.shortcut_norm(self.shortcut(x))
        return functional.relu(residual + skipped)


class Head(nn.Module):
    """The mean over the image and the map to logits."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, of shape (B, classes)."""
        logits: Tensor = self.projection(x.mean(dim=(2, 3)))
        return logits


class ResNet(nn.Module):
    """A stem, residual blocks and a head: ``len(settings.widths) + 2`` layers."""

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        widths = settings.widths
        self.stem = Stem(settings.num_channels, widths[0])
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(before, width) for before, width in pairs)
        self.head = Head(widths[-1], settings.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, of shape (B, classes)."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits
