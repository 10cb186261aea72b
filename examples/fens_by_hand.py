"""A one-shot ensemble in one linear script: clients train alone, upload once, learn to combine.

    python examples/fens_by_hand.py

FENS (Allouah et al., 2024). `hansa combine ensemble` does the same with any rule and network, with
models in 8 bits (here they travel whole: `quantize: none`), out-of-fold judging of rules, saved
ensembles and a report. This is what happens inside: models and rule come out equal to the last bit.
"""

import argparse
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hansa.base.streams import Streams
from hansa.data import Digits, Dirichlet, hold_back_each
from hansa.models import MLP, ParameterLayout, initial_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--clients", type=int, default=10)
parser.add_argument("--epochs", type=int, default=60, help="of phase 1: everybody alone")
parser.add_argument("--rounds", type=int, default=500, help="of phase 2: the rule")
options = parser.parse_args()

clients, seed = options.clients, 90
batch_size, lr = 16, 0.05  # of phase 1
width, rule_lr = 4, 1e-3  # of phase 2: hidden units for each member, the server's step size

torch.set_num_threads(1)  # the operations are too small to share

# Data: 8 x 8 pictures of digits, dealt so unevenly that a client knows few of them. Each keeps a
# tenth of its own from its model's training: the proxies, on which models are combined.
source = Digits(partition=Dirichlet(alpha=0.05, draw="class", min_samples=10))
data = source.load(Streams(seed))
parts = source.divide(data, clients, Streams(seed))
train, proxy = hold_back_each(parts, Streams(seed), 0.1, at_least=2, purpose="proxy")


def batches(examples: np.ndarray, size: int, random: np.random.Generator) -> list[torch.Tensor]:
    """One pass over some examples in random order; the last batch may be smaller."""
    return list(torch.from_numpy(random.permutation(examples)).split(size))


# -- phase 1: every client trains a network of its own, and uploads it once

# Every random choice has a name and hangs on the seed alone, never on what was drawn before it.
streams = Streams(Streams(seed).integer("phase 1", 0))
members: list[nn.Module] = []
for client in range(clients):
    start = Streams(streams.integer("initial model", client))
    module = initial_model(MLP(hidden=(64,)), data.spec, start)
    for epoch in range(options.epochs):
        progress = epoch / max(options.epochs - 1, 1)
        rate = lr * (1 + math.cos(math.pi * progress)) / 2
        for batch in batches(train[client], batch_size, streams.numpy("batches", client, epoch)):
            x, y = data.gather(data.train, batch)
            module.zero_grad()
            F.cross_entropy(module(x), y).backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(parameter.grad, alpha=-rate)
    members.append(module)


@torch.no_grad()
def scores(inputs: torch.Tensor) -> torch.Tensor:
    """What all members say of inputs [m, ...], end to end: [m, clients * 10]."""
    return torch.cat([module(inputs) for module in members], dim=1)


# -- phase 2: everybody has all models now, and scores its proxies; a small network learns from
# these scores what the ensemble should say. It is trained by all: the proxies stay where they are.

streams = Streams(Streams(seed).integer("phase 2 neural"))
counts = np.array([len(part) for part in proxy if len(part)])
x, y = data.gather(data.train, torch.from_numpy(np.concatenate(proxy)))
# (Scored together, since a matrix product rounds otherwise where it has other sizes.)
seen, labels = scores(x).split(counts.tolist()), y.split(counts.tolist())
share = counts / counts.sum()

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(streams.integer("aggregator"))
    hidden = width * clients
    rule = nn.Sequential(nn.Linear(10 * clients, hidden), nn.ReLU(), nn.Linear(hidden, 10))
layout = ParameterLayout.of(rule)  # says which numbers of a row are which parameter
numbers = layout.flatten(rule)  # [q], the server's
gradient, mean, square = (torch.zeros_like(numbers) for _ in range(3))

for t in range(options.rounds):
    update = torch.zeros_like(numbers)
    for client, p in enumerate(share):
        # One step of a client on its proxies: plain descent with rate 1, so that what it sends is
        # its gradient, but for the sign.
        row = numbers.clone()
        layout.bind(rule, row)
        layout.bind_grads(rule, gradient)
        everyone = np.arange(counts[client])
        batch = batches(everyone, 128, streams.numpy("batches", client, t))[0]
        gradient.zero_()
        F.cross_entropy(rule(seen[client][batch]), labels[client][batch]).backward()
        row.add_(gradient, alpha=-1.0)
        update.add_(row - numbers, alpha=float(p))
    # The server takes a step of FedAdam along the mean of the updates.
    update /= float(share.sum())
    mean.lerp_(update, 1 - 0.9)
    square.lerp_(update.square(), 1 - 0.99)
    numbers.addcdiv_(mean, square.sqrt().add_(1e-3), value=rule_lr)
layout.bind(rule, numbers)


@torch.no_grad()
def accuracy(said: torch.Tensor) -> float:
    """Share of the test set that scores [m, 10] get right."""
    return (said.argmax(1) == data.test.targets).float().mean().item()


x, _ = data.gather(data.test, torch.arange(len(data.test)))
each = scores(x).unflatten(1, (clients, 10))
with torch.no_grad():
    print(f"the members alone {np.mean([accuracy(each[:, k]) for k in range(clients)]):.3f}")
    print(f"their average     {accuracy(each.mean(1)):.3f}")
    print(f"the learned rule  {accuracy(rule(scores(x))):.3f}")
