"""A network as an ONNX graph: any number of examples, scaling built in, checked when it is written.

The graph is made by torch's own exporter (https://onnx.ai says what it may hold) and asked the same
examples by ONNX Runtime before anybody else is.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import atomic_write
from hansa.base.lazy import torch, without_gradients
from hansa.data.signature import Signature
from hansa.experiment.predicting import predictions
from hansa.report.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor, nn

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_OFF = 1e-3
"""Of a probability, or of the largest amount: more is another function, not another rounding."""
_BATCHES = (1, 3, 7)
INPUT, SCORES, SHARES, AMOUNT = "input", "scores", "probabilities", "value"
"""What a graph takes, and what it gives: of a classifier scores and probabilities [batch, classes],
of a regression the amount [batch, 1]."""


def require_onnx(path: Path) -> None:
    """Refuse a graph where the packages that write and check it are missing.

    Raises:
        ConfigError: names the extra that brings them.
    """
    lacking = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        problem = f"needs {', '.join(lacking)}"
        raise ConfigError("out", str(path), problem, "pip install 'hansa[onnx]'")


@without_gradients
def write_onnx(
    network: nn.Module, signature: Signature, path: Path, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a network that reads stored values: float32 [batch, *shape], ids int64.

    Images are channels first; scaling is in the graph.

    Args:
        told: facts that go into the file too, under ``hansa``.

    Returns:
        ``onnx``: the names of inputs and outputs, the opset, how many examples were checked and
        how far apart the answers of the two were at most.

    Raises:
        ConfigError: the network does what no graph can say, or the graph answers otherwise.
    """
    require_onnx(path)
    from hansa.experiment.stored_networks import Stored

    whole = Stored(network, signature).eval()
    names = [SCORES, SHARES] if signature.spec.classes else [AMOUNT]
    graph = _graph(whole, examples(signature, 2), names, path)
    apart, count = _apart(graph, whole, signature, names[-1], path)
    facts = {
        "input": INPUT, "outputs": names, "opset": int(graph.opset_import[0].version),
        "checked_examples": count, "largest_difference": apart,
    }  # fmt: skip
    entry = graph.metadata_props.add()
    entry.key, entry.value = "hansa", json.dumps({**told, "onnx": facts})
    with atomic_write(path) as file:
        file.write(graph.SerializeToString())
    return {"onnx": facts}


def examples(signature: Signature, count: int, seed: int = 0) -> Tensor:
    """Inputs such as the data hold, [count, *spec.shape]: for a trial, of nobody's."""
    spec, draw = signature.spec, np.random.default_rng(seed)
    if spec.kind == "pairs":
        columns = [draw.integers(0, size, count) for size in spec.vocabulary]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.int64))
    if spec.kind == "tokens":
        ids = draw.integers(0, spec.vocabulary[0], (count, *spec.shape))
        if spec.padding is not None:  # texts of several lengths
            ends = draw.integers(1, spec.shape[-1] + 1, (count, 1))
            ids = np.where(np.arange(spec.shape[-1]) < ends, ids, spec.padding)
        return torch.from_numpy(ids.astype(np.int64))
    if spec.kind == "image":
        low, high = signature.floor, signature.peak or 1.0
        drawn = draw.uniform(low, high, (count, *spec.shape))
    else:
        drawn = draw.standard_normal((count, *spec.shape))
        if signature.scale is not None and signature.shift is not None:  # around the mean
            drawn = (drawn - signature.shift.numpy()) / signature.scale.numpy()
    return torch.from_numpy(drawn.astype(np.float32))


def _graph(whole: nn.Module, some: Tensor, names: list[str], path: Path) -> Any:
    """The graph as torch's exporter makes it."""
    batch = {0: torch.export.Dim("batch")}
    noise = io.StringIO()
    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in quiet]
    try:
        for logger in quiet:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(noise), redirect_stderr(noise):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                whole, (some,), input_names=[INPUT], output_names=names,
                dynamic_shapes=(batch,), dynamo=True, verbose=False,
            )  # fmt: skip
            assert program is not None
            return program.model_proto
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        why = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
        problem = f"the network does what a graph cannot say: {why[:200]}"
        fix = "a .safetensors file, or a forward without choices that depend on numbers"
        raise ConfigError("out", str(path), problem, fix) from error
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)


def _apart(
    graph: Any, whole: nn.Module, signature: Signature, name: str, path: Path
) -> tuple[float, int]:
    """(how far apart graph and network are at most, on how many examples).

    Raises:
        ConfigError: too far.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    apart = 0.0
    for count in _BATCHES:
        some = examples(signature, count, seed=count)
        try:
            said = session.run([name], {INPUT: some.numpy()})[0]
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            problem = f"the graph takes no {count} examples at a time: the network counts them "
            problem += f"in Python ({str(error).splitlines()[0][:120]})"
            fix = "x.shape[0] in place of len(x) in its forward; or a .safetensors file"
            raise ConfigError("out", str(path), problem, fix) from error
        answer = torch.from_numpy(said).double()
        outputs = whole(some)
        wanted = (outputs[-1] if isinstance(outputs, tuple) else outputs).double()
        unit = 1.0 if name == SHARES else max(1.0, float(wanted.abs().max()))
        apart = max(apart, float((answer - wanted).abs().max()) / unit)
    if not apart <= _OFF:
        problem = f"the graph answers otherwise than the network, by {apart:.2g}"
        raise ConfigError("out", str(path), problem, "a .safetensors file")
    return apart, sum(_BATCHES)


def asked(path: Path, data: Any) -> Predictions:
    """What a graph of :func:`write_onnx` says of examples that somebody brings.

    Raises:
        CheckpointError: it is no such graph, or is damaged.
        ConfigError, DataError: ONNX Runtime is missing, or the examples are not what it takes.
    """
    require_onnx(path)
    import onnxruntime

    if not path.is_file():
        raise ConfigError("run", str(path), "there is no such file", "check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options)
        told = json.loads(session.get_modelmeta().custom_metadata_map["hansa"])
        name = str(told["onnx"]["outputs"][0])
    except Exception as error:
        malformed = isinstance(error, KeyError | TypeError | IndexError | ValueError)
        if malformed or type(error).__module__.startswith("onnxruntime"):
            problem = f"{path}: is no graph of hansa export ({str(error)[:200]})"
            raise CheckpointError(problem) from error
        raise
    signature = replace(Signature.of_facts(told, str(path)), scale=None, shift=None)

    def network(x: Tensor) -> Tensor:
        inputs = {INPUT: np.ascontiguousarray(x.numpy())}
        return torch.from_numpy(session.run([name], inputs)[0])

    return predictions(network, signature, data)
