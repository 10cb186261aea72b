"""Gradients of single examples, clipped and added up (Abadi et al., 2016, algorithm 1).

One batched operation gives the gradients of all examples (``torch.func``), in pieces that fit the
cache. A network that has no batched form, such as one that draws random numbers or counts its
passes, sees its examples one by one: the same sums, some times as slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.engine.training.gradients import Looped, Passes, supports_stacking
from hansa.engine.training.precision import widened

if TYPE_CHECKING:
    from torch import Tensor

_BYTES = 32 << 20  # gradients of single examples that are in memory at a time
_NARROW = 16  # examples to which stacked nodes are filled up at least
_TINY = 1e-12


class PerExample:
    """The passes of some nodes, of which every example's gradient is seen by itself.

    Args:
        passes: of a module in which no example's output depends on another's.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        module, loss = passes.module, passes.loss
        self._trained = [entry.name for entry in passes.layout.entries if entry.trainable]
        self._batched = supports_stacking(module) and not passes.draws

        def of_one(trained: dict[str, Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor):  # type: ignore[no-untyped-def]
            with passes.computing():
                outputs = torch.func.functional_call(module, trained | rest, (x.unsqueeze(0),))
            return loss(widened(outputs), y.unsqueeze(0)).mean()

        of_node = torch.func.vmap(torch.func.grad_and_value(of_one), in_dims=(None, None, 0, 0))
        self._of_nodes = torch.func.vmap(of_node)

    def clipped_sums(
        self, rows: Tensor, x: Tensor, y: Tensor, lengths: Tensor | None, clip: float, sums: Tensor
    ) -> Tensor:
        """Fill ``sums`` [k, P] with each node's sum of clipped gradients; mean losses [k].

        Args:
            rows: [k, D], to which the passes are attached.
            x: [k, B, ...] inputs; B may be 0.
            y: [k, B] targets.
            lengths: int64 [k], how many of each node's examples count; None: all.
            clip: the largest L2 norm of one gradient.
        """
        sums.zero_()
        width = x.shape[1]
        counts = torch.full((len(x),), width) if lengths is None else lengths.cpu()
        if not width:
            return torch.zeros(len(x), device=x.device)
        totals = self._sums(rows, x, y, counts, clip, sums)
        return totals / counts.clamp(min=1).to(totals.device)

    def _sums(
        self, rows: Tensor, x: Tensor, y: Tensor, counts: Tensor, clip: float, sums: Tensor
    ) -> Tensor:
        if self._batched:
            try:
                return self._batch(rows, x, y, counts, clip, sums)
            except RuntimeError as error:
                if not isinstance(self.passes, Looped) or "out of memory" in str(error):
                    raise
                self._batched = False  # torch has no batched form of something in the network
                sums.zero_()
        return self._one_by_one(x[0], y[0], int(counts[0]), clip, sums[0])

    def _batch(
        self, rows: Tensor, x: Tensor, y: Tensor, counts: Tensor, clip: float, sums: Tensor
    ) -> Tensor:
        views = {name: view.detach() for name, view in self.passes.layout.views(rows).items()}
        totals = torch.zeros(len(x), device=x.device)
        one, last = 4 * max(1, sums.shape[1]), x.shape[1] - 1
        for width, who in self._widths(counts):
            piece = min(width, max(1, _BYTES // one))
            for some in who.split(max(1, _BYTES // (one * piece))):
                state = {name: view[some] for name, view in views.items()}
                trained = {name: state.pop(name) for name in self._trained}
                for places in torch.arange(width).split(piece):
                    at = some.unsqueeze(1), places.clamp(max=last)
                    grads, losses = self._of_nodes(trained, state, x[at], y[at])
                    flat = [grads[name].flatten(2) for name in self._trained]  # [k, b, size] each
                    counting = (places < counts[some].unsqueeze(1)).to(x.device)
                    scale = self._scale(flat, clip) * counting
                    for k, node in enumerate(some.tolist()):
                        sums[node] += torch.cat([scale[k] @ part[k] for part in flat])
                    totals[some] += (losses.double() * counting).sum(1).float()
        return totals

    def _widths(self, counts: Tensor) -> list[tuple[int, Tensor]]:
        """Nodes that have something, by how many examples they are filled up to.

        That follows from each node's own count, as kernels may add up fewer examples in another
        order: so a node's bits do not depend on the others.
        """
        wide = counts
        if not isinstance(self.passes, Looped):
            wide = 2 ** counts.clamp(min=_NARROW).double().log2().ceil().long()
        wide = wide * (counts > 0)
        return [(w, torch.nonzero(wide == w).flatten()) for w in wide.unique().tolist() if w]

    @staticmethod
    def _scale(flat: list[Tensor], clip: float) -> Tensor:
        """What single gradients are multiplied by [k, b]; such as are not finite become zero."""
        square = torch.stack([part.square().sum(2) for part in flat]).sum(0)
        if not torch.isfinite(square).all():
            for part in flat:
                part.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            square = torch.stack([part.square().sum(2) for part in flat]).sum(0)
        return (clip / square.sqrt().clamp(min=_TINY)).clamp(max=1)

    def _one_by_one(self, x: Tensor, y: Tensor, count: int, clip: float, total: Tensor) -> Tensor:
        """Of one node, by ordinary passes of one example each."""
        module, losses = self.passes.module, torch.zeros(1, device=x.device)
        named = dict(module.named_parameters())
        leaves = [named[name] for name in self._trained]
        for b in range(count):
            with self.passes.drawing(), torch.enable_grad():
                with self.passes.computing():
                    outputs = module(x[b : b + 1])
                loss = self.passes.loss(widened(outputs), y[b : b + 1]).mean()
                grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
            flat = torch.cat([grad.flatten() for grad in grads])
            flat = torch.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)
            total += flat * float((clip / flat.norm().clamp(min=_TINY)).clamp(max=1))
            losses += loss.detach()
        return losses
