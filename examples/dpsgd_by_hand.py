"""D-PSGD in one linear script, from hansa's parts: data, split, graph, weights, rows, a loop.

    python examples/dpsgd_by_hand.py

`hansa learn` does the same faster, over sockets if you like, with checkpoints, counted bytes and
a report. This is what happens inside: the models come out equal to the last bit.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from hansa.base.streams import Streams
from hansa.data import Digits, Shards
from hansa.models import MLP, ParameterLayout, initial_model
from hansa.topology import Regular, metropolis_hastings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--rounds", type=int, default=60)
parser.add_argument("--nodes", type=int, default=16)
options = parser.parse_args()

nodes, rounds = options.nodes, options.rounds
local_steps, batch_size, lr = 5, 16, 0.05

torch.set_num_threads(1)  # the operations are too small to share

# Every random choice has a name and hangs on the seed alone, never on what was drawn before it.
streams = Streams(seed=1)

# Data: 8 x 8 pictures of digits, in memory once. Two shards a node: a node sees 2 or 3 digits.
source = Digits(partition=Shards(shards_per_node=2))
data = source.load(streams)
parts = source.divide(data, nodes, streams)  # which training examples are whose

# A graph in which everyone hears four others, and how much each trusts whom: a matrix whose rows
# and columns sum to one, so that averaging moves the models together and their mean stays.
graph = Regular(degree=4).graph(nodes, 0, streams)
weights = metropolis_hastings(graph)
W = weights.dense()  # [nodes, nodes]

# All models are rows of one matrix. A layout says which numbers of a row are which parameter.
module = initial_model(MLP(hidden=(64,)), data.spec, streams)
layout = ParameterLayout.of(module)
models = layout.flatten(module).repeat(nodes, 1)  # [nodes, D], all start the same
gradient = torch.zeros(layout.trainable)

print(f"{nodes} nodes, {layout.size:,} parameters each, {graph.edges} messages a round")
print(f"second eigenvalue of W: {weights.second_eigenvalue():.3f} (0 = one round to agree)")


def train(node: int, t: int) -> None:
    """Local steps of one node: plain SGD on its own examples, in place on its row."""
    layout.bind(module, models[node])  # the module's parameters are now this row
    layout.bind_grads(module, gradient)
    order = streams.numpy("batches", node, t).permutation(parts[node])
    for step in range(local_steps):
        batch = np.take(order, range(step * batch_size, (step + 1) * batch_size), mode="wrap")
        x, y = data.gather(data.train, torch.from_numpy(batch))
        gradient.zero_()
        F.cross_entropy(module(x), y).backward()
        models[node].add_(gradient, alpha=-lr)


@torch.no_grad()
def accuracy(row: torch.Tensor) -> float:
    """Share of the test set that a model gets right."""
    layout.bind(module, row)
    x, y = data.gather(data.test, torch.arange(len(data.test)))
    return (module(x).argmax(1) == y).float().mean().item()


for t in range(rounds):
    for node in range(nodes):  # 1. everyone trains alone
        train(node, t)
    # 2. Everyone averages with its neighbours: in the order of their ids, as sums round.
    heard = [np.flatnonzero(W[node]) for node in range(nodes)]
    models = torch.stack([sum(W[i, j] * models[j] for j in heard[i]) for i in range(nodes)])
    if (t + 1) % 10 == 0 or t + 1 == rounds:
        each = [accuracy(row) for row in models]
        apart = (models - models.mean(0)).norm(dim=1).square().mean().sqrt()
        print(
            f"round {t + 1:3d}  accuracy {np.mean(each):.3f} ± {np.std(each):.3f}"
            f"  averaged model {accuracy(models.mean(0)):.3f}  distance {apart:.3f}"
        )
