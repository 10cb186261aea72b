"""Controls: what takes the place of a client's synthetic images, to see what distilling gains."""

from __future__ import annotations

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.forget.holdings import Real, Synthetic


def random_real(streams: Streams, everything: Real, images: Synthetic) -> Synthetic:
    """As many of a client's own examples of each class as it has synthetic images.

    Args:
        everything: all that the client holds.
    """
    random = streams.numpy("forget.control", images.client)
    part, labels, chosen = everything.index, everything.labels(), []
    for label, count in zip(*images.y.unique(return_counts=True), strict=True):
        members = part[labels == int(label)]
        chosen.append(torch.from_numpy(random.choice(members, int(count), replace=False)))
    index, dataset = torch.cat(chosen).to(images.y.device), everything.dataset
    return Synthetic(images.client, *dataset.gather(dataset.train, index))


def noise(streams: Streams, images: Synthetic) -> Synthetic:
    """As many images of standard normal numbers as a client has synthetic images."""
    random = streams.numpy("forget.control", images.client)
    drawn = random.standard_normal(tuple(images.x.shape), dtype="float32")
    return Synthetic(images.client, torch.from_numpy(drawn).to(images.x.device), images.y)
