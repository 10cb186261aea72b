"""Networks that make inputs out of noise, for images of any size and for tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hansa.base.lazy import Lazy, nn, torch, without_gradients
from hansa.ensemble.inputs import InputForm

if TYPE_CHECKING:
    pass

networks = Lazy("hansa.ensemble.networks")  # they need torch


def image_generator(form: InputForm, latent: int, width: int) -> nn.Module:
    """Noise [b, latent] -> images [b, C, H, W]: a linear layer, then twice larger by convolution.

    The one of DENSE's code for sides that are multiples of 4; for others, each map is as large as
    the next one needs.
    """
    channels, *sides = form.shape
    half = [math.ceil(side / 2) for side in sides]
    first = [math.ceil(side / 2) for side in half]
    return nn.Sequential(
        nn.Linear(latent, 2 * width * first[0] * first[1]),
        nn.Unflatten(1, (2 * width, *first)),
        nn.BatchNorm2d(2 * width),
        nn.Upsample(size=tuple(half)),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Upsample(size=tuple(sides)),
        nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, channels, 3, padding=1),
        nn.Sigmoid(),
        networks.Pixels(form),
    )


def table_generator(form: InputForm, latent: int, width: int) -> nn.Module:
    """Noise [b, latent] -> rows [b, F] of mean 0 and deviation 1, as standardized tables have."""
    return nn.Sequential(
        nn.Linear(latent, 2 * width, bias=False),
        nn.BatchNorm1d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * width, 2 * width, bias=False),
        nn.BatchNorm1d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * width, form.shape[0]),
        nn.BatchNorm1d(form.shape[0], affine=False),
    )


def generator(form: InputForm, latent: int, width: int) -> nn.Module:
    """A network that makes inputs; :func:`restart` gives it its first numbers."""
    build = image_generator if len(form.shape) == 3 else table_generator
    return build(form, latent, width)


@without_gradients
def restart(module: nn.Module, chance: torch.Generator) -> None:
    """First numbers as in DENSE: weights N(0, 0.02), scales N(1, 0.02), the rest 0 (on a CPU)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.weight.normal_(0, 0.02, generator=chance)
        elif isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            part.weight.normal_(1, 0.02, generator=chance)
        else:
            continue
        if part.bias is not None:
            part.bias.zero_()
