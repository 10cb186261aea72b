"""Forgetting in one linear script: clients distil their data as they learn, then a class goes.

    python examples/quickdrop_by_hand.py

QuickDrop (Dhasade et al., 2024). `hansa learn quickdrop` and `hansa forget --class 3` do the same
for any model, for classes, clients or examples, with rates that adapt, checks of what is still
known, receipts and a report. This is what happens inside, with fixed rounds: model and images come
out equal to the last bit.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from hansa.base.streams import Streams
from hansa.data import Digits, Dirichlet
from hansa.models import MLP, ParameterLayout, initial_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--rounds", type=int, default=15)
parser.add_argument("--clients", type=int, default=10)
parser.add_argument("--forget", type=int, default=3, metavar="CLASS")
options = parser.parse_args()

clients, gone = options.clients, options.forget
local_steps, batch_size, lr = 5, 32, 0.1  # so many examples of each class that a client has
scale, image_lr, image_momentum, image_decay = 0.01, 0.1, 0.5, 0.001  # a hundredth of the data
ascents, ascent_lr = 3, 0.02
recoveries, recovery_steps, recovery_lr = 5, 2, 0.05

torch.set_num_threads(1)  # the operations are too small to share

# Every random choice has a name and hangs on the seed alone, never on what was drawn before it.
streams = Streams(seed=1)

# Data: 8 x 8 pictures of digits. A cell is one client's examples of one class.
source = Digits(partition=Dirichlet(alpha=0.1, draw="class"))
data = source.load(streams)
parts = source.divide(data, clients, streams)
targets = data.train.targets.numpy()
cells = [{int(c): p[targets[p] == c] for c in np.unique(targets[p])} for p in parts]
everything, _ = data.gather(data.train, torch.arange(len(data.train)))
darkest, lightest = (f((0, 2, 3)).view(-1, 1, 1) for f in (everything.amin, everything.amax))

# A model is one row of numbers. It is wide enough that hansa takes one cell at a time, as here; it
# does the cells of smaller ones together, where sums round otherwise.
module = initial_model(MLP(hidden=(1024,)), data.spec, streams)
layout = ParameterLayout.of(module)
model = layout.flatten(module)  # [D], the server's
parameters = list(module.parameters())


def examples(index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and classes of some training examples."""
    return data.gather(data.train, torch.from_numpy(index))


def gradient(x: torch.Tensor, y: torch.Tensor, share: torch.Tensor, again: bool = False):
    """Of the weighted loss at the module's numbers; ``again``: so that it can be derived itself."""
    loss = (F.cross_entropy(module(x), y, reduction="none") * share).sum()
    return torch.autograd.grad(loss, parameters, create_graph=again)


def equal(count: int) -> torch.Tensor:
    """Weights of so many examples that make a mean."""
    return torch.full((count,), 1 / count)


def distance(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """How far two gradients point apart: 1 - cosine, summed over rows of weight matrices."""
    total = torch.zeros(())
    for a, b in zip(one, other, strict=True):
        if a.ndim > 1:
            norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
            total = total + (1 - (a * b).sum(1) / (norms + 1e-6)).sum()
    return total


# The first images are copies of random examples; from then on they move.
images: list[dict[int, torch.Tensor]] = []
for client, own in enumerate(cells):
    random = streams.numpy("quickdrop.images", client, 0)
    count = {c: int(np.ceil(len(index) * scale)) for c, index in own.items()}
    images.append(
        {c: examples(random.choice(index, count[c], False))[0] for c, index in own.items()}
    )


def train(client: int, t: int) -> torch.Tensor:
    """A client's model [D] after some steps; its images move along, for free as to its examples."""
    row, own = model.clone(), cells[client]
    layout.bind(module, row)  # the module's parameters are now this row
    random = streams.numpy("quickdrop.batches", client, t)
    draws = {}
    for c, index in own.items():
        size = min(len(index), max(batch_size, len(images[client][c])))
        draws[c] = [random.choice(index, size, replace=False) for _ in range(local_steps)]
    velocity = {c: torch.zeros_like(x) for c, x in images[client].items()}
    for step in range(local_steps):
        total = torch.zeros_like(row)
        for c in sorted(own, key=lambda c: len(own[c])):  # one batch of every class
            x, y = examples(draws[c][step])
            real = gradient(x, y, equal(len(y)))
            share = torch.tensor(len(own[c])) / torch.tensor(len(parts[client]))
            total += torch.cat([g.flatten() for g in real]) * share
            if len(own[c]) > 1:  # the image of a single example stays its copy
                # The same gradient pulls the images: theirs is to point alike.
                fake = images[client][c].requires_grad_()
                alike = gradient(fake, y[:1].expand(len(fake)), equal(len(fake)), again=True)
                (pull,) = torch.autograd.grad(distance(alike, real), fake)
                with torch.no_grad():
                    fake.requires_grad_(False)
                    velocity[c].mul_(image_momentum).add_(pull).add_(fake, alpha=image_decay)
                    fake.add_(velocity[c], alpha=-image_lr).clamp_(darkest, lightest)
        row.add_(total, alpha=-lr)
    return row


@torch.no_grad()
def accuracy(row: torch.Tensor, of_class: bool) -> float:
    """Share of the test examples of the class that goes, or of the others, that are right."""
    layout.bind(module, row)
    x, y = data.gather(data.test, torch.arange(len(data.test)))
    asked = (y == gone) == of_class
    return (module(x).argmax(1) == y)[asked].float().mean().item()


def told(row: torch.Tensor) -> str:
    """Both."""
    return f"class {gone} {accuracy(row, True):.3f}  the others {accuracy(row, False):.3f}"


# -- learning: federated averaging, weighed by numbers of examples
share = np.array([len(part) for part in parts]) / sum(map(len, parts))
for t in range(options.rounds):
    update, weight = torch.zeros_like(model), float(share.sum())
    for client, p in enumerate(share):
        update.add_(train(client, t) - model, alpha=float(p))
    model = model + update / weight
trained = model
print(f"trained    {told(trained)}")


def distilled(forget: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each client's images of the class that goes, or of the others; no original is touched."""
    found = []
    for own in images:
        chosen = {c: x for c, x in own.items() if (c == gone) == forget}
        if chosen:
            y = torch.cat([torch.full((len(x),), c) for c, x in chosen.items()])
            found.append((torch.cat(list(chosen.values())), y))
    return found


def averaged(held: list[tuple[torch.Tensor, torch.Tensor]], steps: int, rate: float):
    """A round: clients take steps on their images, and the server averages their models."""
    mean, total = torch.zeros_like(model, dtype=torch.float64), sum(len(y) for _, y in held)
    for x, y in held:
        row = model.clone()
        layout.bind(module, row)
        for _ in range(steps):
            found = torch.cat([g.flatten() for g in gradient(x, y, equal(len(y)))])
            row.add_(found, alpha=-rate)
        mean += row.double() * (len(y) / total)
    return mean.float()


# -- forgetting: up the loss of what is to go, then down that of the rest
for _ in range(ascents):
    model = averaged(distilled(forget=True), 1, -ascent_lr)
print(f"ascended   {told(model)}")
for _ in range(recoveries):
    model = averaged(distilled(forget=False), recovery_steps, recovery_lr)
print(f"recovered  {told(model)}")
