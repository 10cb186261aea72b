"""Training on with sums that fit an accumulator: weights that obey while they learn.

As A2Q+ (Colbert et al., 2024, arXiv 2401.10432): weights are projected onto what the accumulator
allows and rounded in every forward pass, gradients pass straight through both, and it begins from
the projection of what was trained. Two things differ: the sums of each sign are held apart (see
:mod:`held_sums`), and the network learns to give its own former logits on examples, so that no
label is needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.infer.private.compiling.held_sums import Part, held
from hansa.infer.private.compiling.quantize import Bits, fits
from hansa.infer.private.compiling.real_net import RealBlock, RealNet
from hansa.infer.private.program import Block, Program, Round, Term, bounds

if TYPE_CHECKING:
    from torch import Tensor

_BATCH, _RATE = 64, 2e-3


def train_held(
    net: RealNet, program: Program, rows: np.ndarray, bits: Bits, epochs: int, seed: int = 0
) -> Program:
    """The program with weights and biases that were trained on; its scales stay as they are.

    Args:
        net: what the program was made of.
        rows: float [n, *input_shape] of examples, all of which are learned from.
        bits: with the width of the accumulators.

    Raises:
        ConfigError: no accumulator is named, or a bias alone does not fit it.
    """
    if bits.accumulator is None:
        fix = "--accumulator BITS"
        raise ConfigError("a2q", epochs, "trains for accumulators of no width", fix)
    inputs = torch.from_numpy(np.asarray(rows, np.float32)).reshape(len(rows), *net.input_shape)
    generator = torch.Generator().manual_seed(seed)
    learner = _Learner(net, program, bits)
    with torch.no_grad():
        wanted = torch.cat([net(part) for part in inputs.split(256)])
    size = float(wanted.var()) or 1.0
    optimizer = torch.optim.Adam(learner.parameters, _RATE)
    steps = max(epochs * -(-len(inputs) // _BATCH), 1)
    cycle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for some in torch.randperm(len(inputs), generator=generator).split(_BATCH):
            optimizer.zero_grad()
            off = learner(inputs[some]) - wanted[some]
            loss = off.square().mean() / size
            loss.backward()
            optimizer.step()
            cycle.step()
    return learner.program()


class _Learner:
    """The network as the integers compute it, with weights that can be moved."""

    def __init__(self, net: RealNet, program: Program, bits: Bits) -> None:
        assert bits.accumulator is not None
        self.net, self.made, self.bits, self.width = net, program, bits, bits.accumulator
        self.blocks = {block.name: block for one in program.rounds for block in one.blocks}
        self.weights: dict[tuple[str, int], Tensor] = {}
        self.biases: dict[str, Tensor] = {}
        offset = torch.from_numpy(np.asarray(program.offset, np.float64))
        for name, block in net.blocks.items():
            bias = block.bias.double().clone()
            for at, term in enumerate(block.terms):
                self.weights[name, at] = term.layer.weight.double().clone()
                if term.value == net.input_name:
                    bias += term.layer.dense().sum((2, 3)) @ offset
            self.biases[name] = bias
        self.parameters = [
            *(w for (name, at), w in self.weights.items() if not self._exact(name, at)),
            *self.biases.values(),
        ]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def _exact(self, name: str, at: int) -> bool:
        return self.net.blocks[name].terms[at].layer.exact

    def _whole(self, block: RealBlock) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """(weights in units of an integer, the integers, the bias as integers)."""
        scale = self.blocks[block.name].scale
        most = (1 << (self.bits.weights - 1)) - 1
        real, parts = [], []
        for at, term in enumerate(block.terms):
            value = self.made.values[term.value]
            units = self.weights[block.name, at] * (value.scale / scale)
            exact = self._exact(block.name, at)
            real.append(units if exact else units.clamp(-most, most))
            low, high = min(value.low, 0), max(value.high, 0)
            parts.append(Part(real[-1].detach(), low, high, exact))
        bias = (self.biases[block.name].detach() / scale).round()
        whole = held(parts, bias, self.width)
        if whole is None:
            problem = f"has a bias that does not fit {self.width} bits"
            raise ConfigError(f"network.{block.name}", self.width, problem, "more bits")
        return real, whole, bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Logits [n, outputs], with gradients that pass through rounding."""
        first = self.made.input
        moved = rows.double() - torch.from_numpy(self.made.offset).view(1, -1, 1, 1)
        whole = (moved / first.scale).round().clamp(first.low, first.high)
        at = {self.net.input_name: (whole * first.scale).float()}
        totals: dict[str, Tensor] = {}
        for item in self.net.steps():
            if isinstance(item, RealBlock):
                totals[item.name] = self._sum(item, at)
                continue
            made, value = item(totals[item.block]), self.made.values[item.name]
            inside = made.clamp(value.low * value.scale, value.high * value.scale)
            rounded = (inside / value.scale).round().clamp(value.low, value.high) * value.scale
            at[item.name] = inside + (rounded - inside).detach()
        return totals[self.net.logits].flatten(1)

    def _sum(self, block: RealBlock, at: dict[str, Tensor]) -> Tensor:
        scale, total = self.blocks[block.name].scale, None
        real, whole, bias_whole = self._whole(block)
        for units, integers, term in zip(real, whole, block.terms, strict=True):
            through = units + (integers - units).detach()
            unit = scale / self.made.values[term.value].scale
            part = replace(term.layer, weight=through * unit)(at[term.value])
            total = part if total is None else total + part
        assert total is not None
        bias = self.biases[block.name]
        through = bias + (bias_whole * scale - bias).detach()
        return total + through.float().view(1, -1, 1, 1)

    def program(self) -> Program:
        """The program with the integers that were learned."""
        with torch.no_grad():
            blocks = {name: self._block(block) for name, block in self.net.blocks.items()}
        rounds = tuple(
            Round(one.uploads, tuple(blocks[b.name] for b in one.blocks), one.activations)
            for one in self.made.rounds
        )
        return replace(self.made, rounds=rounds)

    def _block(self, block: RealBlock) -> Block:
        old = self.blocks[block.name]
        _, whole, bias = self._whole(block)
        terms = tuple(
            replace(term, weight=integers.to(torch.int64).numpy())
            for term, integers in zip(old.terms, whole, strict=True)
        )
        return self._bounded(old, terms, bias.to(torch.int64).numpy())

    def _bounded(self, old: Block, terms: tuple[Term, ...], bias: np.ndarray) -> Block:
        low, high = bounds(terms, bias, self.made.values)
        made = replace(old, terms=terms, bias=bias, low=low, high=high)
        assert fits(made, self.width)
        return made
