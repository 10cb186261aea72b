"""Federated averaging in one linear script, from hansa's parts: data, split, rows, a loop.

    python examples/fedavg_by_hand.py

McMahan et al., 2017. `hansa learn fedavg` does the same faster, in worker processes if you like, on
modelled phones, with checkpoints, counted bytes and a report. This is what happens inside: the
model comes out equal to the last bit.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from hansa.base.streams import Streams
from hansa.data import Digits, Dirichlet
from hansa.models import MLP, ParameterLayout, initial_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--clients", type=int, default=50)
parser.add_argument("--sampled", type=int, default=10, help="clients that take part in a round")
options = parser.parse_args()

clients, rounds = options.clients, options.rounds
local_epochs, batch_size, lr = 2, 16, 0.05

torch.set_num_threads(1)  # the operations are too small to share

# Every random choice has a name and hangs on the seed alone, never on what was drawn before it.
streams = Streams(seed=1)

# Data: 8 x 8 pictures of digits, in memory once. Each client has its own mix of them, and some have
# more than others.
source = Digits(partition=Dirichlet(alpha=0.3))
data = source.load(streams)
parts = source.divide(data, clients, streams)  # which training examples are whose
sizes = np.array([len(part) for part in parts])

# A model is one row of numbers. A layout says which of them are which parameter.
module = initial_model(MLP(hidden=(64,)), data.spec, streams)
layout = ParameterLayout.of(module)
model = layout.flatten(module)  # [D], the server's
gradient = torch.zeros(layout.trainable)

print(f"{clients} clients with {sizes.min()} to {sizes.max()} examples, {layout.size:,} parameters")


def train(client: int, t: int) -> torch.Tensor:
    """A client's model [D] after some passes over its own examples, from the server's."""
    row = model.clone()
    layout.bind(module, row)  # the module's parameters are now this row
    layout.bind_grads(module, gradient)
    random = streams.numpy("batches", client, t)
    for _ in range(local_epochs):
        order = torch.from_numpy(random.permutation(parts[client]))
        for batch in order.split(batch_size):  # the last one is smaller
            x, y = data.gather(data.train, batch)
            gradient.zero_()
            F.cross_entropy(module(x), y).backward()
            row.add_(gradient, alpha=-lr)
    return row


@torch.no_grad()
def accuracy(row: torch.Tensor) -> float:
    """Share of the test set that a model gets right."""
    layout.bind(module, row)
    x, y = data.gather(data.test, torch.arange(len(data.test)))
    return (module(x).argmax(1) == y).float().mean().item()


print(f"round   0  accuracy {accuracy(model):.3f}")
server = clients  # its id comes after those of the clients
for t in range(rounds):
    # 1. The server invites some clients.
    random = streams.numpy("sampling", server, t)
    invited = np.sort(random.choice(clients, options.sampled, replace=False))
    share = sizes[invited] / sizes[invited].sum()
    # 2. They train its model on their own examples and send how far they came; 3. it goes the mean
    # of their ways, weighed by how many examples each has.
    update, weight = torch.zeros_like(model), float(share.sum())
    for p, client in zip(share, invited, strict=True):
        update.add_(train(client, t) - model, alpha=float(p))
    model = model + update / weight
    if (t + 1) % 5 == 0 or t + 1 == rounds:
        print(f"round {t + 1:3d}  accuracy {accuracy(model):.3f}")
