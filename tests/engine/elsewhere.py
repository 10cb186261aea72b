"""A second device without hardware: torch's ``meta``, whose tensors have a form and no numbers.

It shows what a GPU would refuse: an operation on tensors of two devices, and numbers that are
taken to NumPy without being fetched. What is fetched is all ones, so no figure means anything.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAME = "meta"
aten = torch.ops.aten
_BY_INDEX = (aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_)
"""May be told places from the CPU, as on a GPU."""


class Elsewhere(TorchDispatchMode):
    """Within it, ``meta`` is a device like any other, but for the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0  # that were done there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t for t in tensors if t.device.type == NAME]
        if not there:
            return func(*args, **kwargs)
        self.operations += 1
        packet = func.overloadpacket
        if packet is aten._local_scalar_dense:
            return torch.ones((), dtype=args[0].dtype).item()
        if packet is aten._to_copy:
            target = torch.device(kwargs.get("device") or args[0].device)
            if target.type == "cpu":
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if packet is aten.copy_:
            return args[0].fill_(1) if args[0].device.type == "cpu" else args[0]
        if packet is aten.equal:
            return True
        if packet is aten.nonzero:
            return torch.empty(0, args[0].dim(), dtype=torch.int64, device=NAME)
        if packet is aten.mm and args[0].layout is torch.sparse_csr:  # which meta does not know
            return torch.empty(len(args[0]), args[1].shape[1], device=NAME)
        here = [t for t in tensors if t.device.type == "cpu" and t.dim()]
        if here and packet not in _BY_INDEX:
            raise RuntimeError(f"{func}: tensors on two devices, {NAME} and cpu")
        return func(*args, **kwargs)
