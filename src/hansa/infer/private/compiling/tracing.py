"""Any torch module read as real blocks, by torch.fx: its layers by name, in the order they run.

A module whose forward cannot be traced (it asks what its input is) is taken as one function of a
number where a probe says that it is one, and is refused by its name where it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.base.own_code import place_of, said
from hansa.infer.private.compiling.expressions import Affine, Builder, Expression, Stepped
from hansa.infer.private.compiling.functions import Call, apply_function
from hansa.infer.private.compiling.layers import apply_module
from hansa.infer.private.compiling.real_net import Elementwise, RealNet
from hansa.infer.private.compiling.refusals import no_layer, refused

if TYPE_CHECKING:
    from torch import Tensor, fx

ENDINGS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Softmax2d": "softmax",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "logsigmoid",
}
"""What may follow the logits and is left to the reader: it does not change which is largest."""
TOLERANCE = 1e-4
"""How far the read network may be off the module, by the largest logit: float32 rounds so."""


class Ended:
    """The logits behind an ending.

    Attributes:
        ending: the function's name.
    """

    def __init__(self, of: Expression, ending: str) -> None:
        self.of, self.ending = of, ending


def read_network(module: nn.Module, rows: Tensor) -> tuple[RealNet, str]:
    """(a network's real blocks, what follows its logits), held against the module on ``rows``.

    Args:
        module: whose first argument is a batch of examples.
        rows: [n, *shape] of some examples.

    Raises:
        ConfigError: a layer cannot be compiled (names it), or the module fails on the rows.
    """
    module = module.eval()
    outputs = _outputs(module, rows)
    graph, leaves = _graph(module)
    builder = Builder(tuple(rows.shape[1:]))
    with torch.no_grad():
        ended = _walk(module, graph, leaves, builder)
        builder.answer(ended.of)
        _hold(builder.net, ended.ending, rows, outputs)
    return builder.net, ended.ending


def _outputs(module: nn.Module, rows: Tensor) -> Any:
    try:
        with torch.no_grad():
            outputs = module(rows)
    except Exception as error:
        place = place_of(error)
        where = f"{place}: " if place else ""
        problem = f"fails on examples {list(rows.shape[1:])}: {where}{said(error)}"
        raise refused("", type(module).__name__, problem, "rows of the shape it reads") from error
    if isinstance(outputs, tuple | list | dict):
        problem = f"gives {len(outputs)} outputs"
        raise refused("", type(module).__name__, problem, "one output: a module with one head")
    return outputs


def _graph(module: nn.Module) -> tuple[fx.Graph, set[str]]:
    """(the calls of its forward, modules that could not be looked into)."""
    from torch import fx

    leaves: set[str] = set()

    class Reader(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return module_qualified_name in leaves or super().is_leaf_module(
                m, module_qualified_name
            )

        def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            name = self.path_of_module(m)
            try:
                return super().call_module(m, forward, args, kwargs)
            except (_Unread, ConfigError):
                raise
            except Exception as error:
                raise _Unread(name, said(error)) from error

    while True:
        try:
            return Reader().trace(module), leaves
        except _Unread as error:
            leaves.add(error.layer)
        except Exception as error:
            place = place_of(error)
            where = f"{place}: " if place else ""
            problem = f"cannot be read: {where}{said(error)}"
            fix = "a forward that does the same whatever its input is"
            raise refused("", type(module).__name__, problem, fix) from error


class _Unread(Exception):
    def __init__(self, layer: str, problem: str) -> None:
        super().__init__(problem)
        self.layer = layer


def _walk(module: nn.Module, graph: fx.Graph, leaves: set[str], builder: Builder) -> Ended:
    """What the output is of the input."""
    at: dict[Any, Any] = {}
    inputs = 0
    names = {id(m): name for name, m in module.named_modules()}
    for node in graph.nodes:
        layer = _layer(node, names)
        if node.op == "placeholder":
            inputs += 1
            if inputs > 1 and not node.args:
                problem = "is a second input"
                raise refused(node.name, None, problem, "a module of one input")
            at[node] = node.args[0] if inputs > 1 else builder.input
        elif node.op == "get_attr":
            at[node] = _attribute(module, str(node.target))
        elif node.op == "output":
            return _ended(torch.fx.node.map_arg(node.args[0], lambda n: at[n]), layer)
        else:
            args = torch.fx.node.map_arg(node.args, lambda n: at[n])
            kwargs = torch.fx.node.map_arg(node.kwargs, lambda n: at[n])
            at[node] = _called(module, node, args, kwargs, builder, layer, leaves)
    raise AssertionError("a graph ends in an output")


def _called(
    module: nn.Module,
    node: fx.Node,
    args: Any,
    kwargs: Any,
    builder: Builder,
    layer: str,
    leaves: set[str],
) -> Any:
    for given in (*args, *kwargs.values()):
        if isinstance(given, Ended):
            problem, fix = "sees all numbers at once, and is not the last layer", "leave it out"
            raise refused(layer, given.ending, problem, fix)
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        kind = type(part).__name__
        if len(args) + len(kwargs) != 1:
            raise no_layer(layer, kind, kind)
        of = (*args, *kwargs.values())[0]
        if not isinstance(of, Affine | Stepped):
            return part(of)  # of constants
        if kind in ENDINGS and kind not in ("Sigmoid", "LogSigmoid"):
            return _end(builder, of, layer, kind, ENDINGS[kind])
        if str(node.target) in leaves:
            try:
                return apply_module(builder, of, part, layer)
            except ConfigError as error:
                fix = "a forward without len(x) and branches on x; attention is beyond any of them"
                problem = "asks what its input is while it runs, and is no function of one number"
                raise refused(layer, kind, problem, fix) from error
        return apply_module(builder, of, part, layer)
    target: Any = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    name = str(name).strip("_")
    given = (*args, *kwargs.values())
    if not any(isinstance(x, Affine | Stepped) for x in _flat(given)):
        function = getattr(args[0], str(target)) if node.op == "call_method" else target
        return function(*(args[1:] if node.op == "call_method" else args), **kwargs)
    if name in ("softmax", "log_softmax"):
        return _end(builder, args[0], layer, name, name)
    if node.op == "call_method":
        method = str(target)

        def function(x: Any, *rest: Any, **named: Any) -> Any:
            return getattr(x, method)(*rest, **named)

        return apply_function(Call(builder, name, function, args, kwargs, layer))
    return apply_function(Call(builder, name, target, args, kwargs, layer))


def _flat(given: Any) -> list[Any]:
    out: list[Any] = []
    for one in given:
        out += _flat(one) if isinstance(one, list | tuple) else [one]
    return out


def _end(builder: Builder, of: Expression, layer: str, kind: str, ending: str) -> Ended:
    builder.tell(layer, kind, "left to the reader: the logits are the answer")
    return Ended(of, ending)


def _ended(output: Any, layer: str) -> Ended:
    if isinstance(output, Ended):
        return output
    if isinstance(output, tuple | list | dict):
        raise refused("", len(output), "gives several outputs", "one output: a module of one head")
    if not isinstance(output, Affine | Stepped):
        problem, fix = "does not depend on the input", "a network that reads it"
        raise refused("", type(output).__name__, problem, fix)
    if isinstance(output, Stepped) and len(output.stages) == 1 and output.gain == 1:
        last = output.stages[0]
        if isinstance(last, Elementwise) and last.name.lower() in ("sigmoid", "logsigmoid"):
            return Ended(output.base, last.name.lower())
    return Ended(output, "")


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _layer(node: fx.Node, names: dict[int, str]) -> str:
    """The name that a person finds in the module."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    within = next((str(path) for path in reversed([*stack])), "")
    return f"{within}.{node.name}" if within else node.name


def _hold(net: RealNet, ending: str, rows: Tensor, outputs: Tensor) -> None:
    """Refuse a reading that does not compute what the module does."""
    shape = (len(rows), *net.input_shape)
    made = net(rows.reshape(shape).to(torch.float64))
    wanted = outputs.reshape(len(rows), -1).double()
    if ending:
        function = {
            "softmax": lambda x: x.softmax(1),
            "log_softmax": lambda x: x.log_softmax(1),
            "sigmoid": torch.sigmoid,
            "logsigmoid": torch.nn.functional.logsigmoid,
        }[ending]
        made = function(made)
    if made.shape != wanted.shape:
        problem = f"gives {list(outputs.shape[1:])}, read as {made.shape[1]} numbers"
        raise refused("", None, problem, "a network that treats each example alone")
    size = float(wanted.abs().max()) if wanted.numel() else 0.0
    off = float((made - wanted).abs().max()) if wanted.numel() else 0.0
    if not off <= TOLERANCE * max(size, 1e-3):
        problem = f"is read as another function: its outputs differ by {off:.2g} of {size:.2g}"
        fix = "a network that treats each example alone and draws nothing at random"
        raise refused("", None, problem, fix)
