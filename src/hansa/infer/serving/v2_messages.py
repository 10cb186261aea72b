"""Requests and answers of the Open Inference Protocol (V2), and a model that speaks it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hansa
from hansa.infer.serving.v2_tensors import NamedTensor, TensorForm
from hansa.serving.requests_in import Refused

SERVER = "hansa"


@dataclass(frozen=True)
class InferRequest:
    """What is asked of a model.

    Attributes:
        id: echoed in the answer.
        inputs: by name.
        wanted: names of outputs; none: all.
        body: the same as JSON, to be passed on: as it came, if it says nothing that is not for
            whoever answers in the end.
    """

    inputs: dict[str, NamedTensor]
    id: str | None = None
    wanted: tuple[str, ...] = ()
    body: bytes = b""

    @classmethod
    def read(cls, body: bytes, forms: tuple[TensorForm, ...] = ()) -> InferRequest:
        """A request from JSON.

        Args:
            forms: of the model's inputs; none: whatever comes.

        Raises:
            Refused: it is no such request, or its tensors are not the model's.
        """
        try:
            said = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is no JSON: {error}") from None
        if not isinstance(said, Mapping):
            raise Refused(400, "the body is no object {id, inputs, outputs}")
        number = said.get("id")
        if number is not None and not isinstance(number, str):
            raise Refused(400, f"id {number!r} is no text")
        entries = said.get("inputs")
        if not isinstance(entries, list) or not entries:
            raise Refused(400, "inputs is no list of tensors")
        tensors = [NamedTensor.read(entry, f"inputs[{k}]") for k, entry in enumerate(entries)]
        inputs = {tensor.name: tensor for tensor in tensors}
        if len(inputs) < len(tensors):
            raise Refused(400, "two inputs have one name")
        if forms:
            check(inputs, forms)
        if not set(said) <= {"id", "inputs"}:
            body = json.dumps({"inputs": entries}, separators=(",", ":")).encode()
        return cls(inputs, number, _wanted(said.get("outputs")), body)

    @property
    def batch(self) -> int:
        """How many examples there are: the first size of every input.

        Raises:
            Refused: inputs differ in it, or there is none.
        """
        sizes = {tensor.data.shape[0] if tensor.data.ndim else 0 for tensor in self.inputs.values()}
        if len(sizes) > 1:
            raise Refused(400, f"inputs differ in the number of examples: {sorted(sizes)}")
        if not (size := sizes.pop()):
            raise Refused(400, "there is no example: the first size of a shape is the batch's")
        return size


def check(inputs: Mapping[str, NamedTensor], forms: tuple[TensorForm, ...]) -> None:
    """Refuse tensors that are not the inputs of a model.

    Raises:
        Refused: names the tensor.
    """
    names = [form.name for form in forms]
    for name in inputs:
        if name not in names:
            raise Refused(400, f"tensor {name!r} is no input of the model: {', '.join(names)}")
    for form in forms:
        if form.name not in inputs:
            raise Refused(400, f"input {form.name!r} is missing")
        inputs[form.name].check(form)


def _wanted(entries: Any) -> tuple[str, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise Refused(400, "outputs is no list of {name}")
    names = tuple(entry.get("name") for entry in entries)
    if not all(isinstance(name, str) for name in names):
        raise Refused(400, "an output has no name")
    return names


@dataclass(frozen=True)
class InferAnswer:
    """What a model says.

    Attributes:
        parameters: what there is to know beside, each a text, a number or a truth.
    """

    outputs: tuple[NamedTensor, ...]
    parameters: dict[str, str | int | float | bool] = field(default_factory=dict)

    def dump(self, model: str, request: InferRequest) -> dict[str, Any]:
        """Plain data.

        Raises:
            Refused: an output was asked for that there is not.
        """
        names = [tensor.name for tensor in self.outputs]
        for name in request.wanted:
            if name not in names:
                raise Refused(400, f"output {name!r} is none of the model: {', '.join(names)}")
        wanted = request.wanted or names
        said: dict[str, Any] = {"model_name": model, "model_version": ServedModel.version}
        if request.id is not None:
            said["id"] = request.id
        said["outputs"] = [tensor.dump() for tensor in self.outputs if tensor.name in wanted]
        if self.parameters:
            said["parameters"] = self.parameters
        return said


class ServedModel(ABC):
    """A model behind the protocol.

    Attributes:
        inputs: their forms; none: whatever the members take.
    """

    version = "1"
    name: str
    platform: str
    inputs: tuple[TensorForm, ...] = ()
    outputs: tuple[TensorForm, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """What the model is."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.platform,
            "inputs": [form.dump() for form in self.inputs],
            "outputs": [form.dump() for form in self.outputs],
        }

    def read(self, body: bytes) -> InferRequest:
        """A request in JSON, of the inputs that the model takes.

        Raises:
            Refused: it is none.
        """
        return InferRequest.read(body, self.inputs)

    @abstractmethod
    async def ready(self) -> bool:
        """Whether it can answer now."""

    @abstractmethod
    async def infer(self, request: InferRequest, left_s: float | None) -> InferAnswer:
        """Answer.

        Args:
            left_s: seconds that whoever asks will wait; None: not said.

        Raises:
            Refused: with the status of HTTP.
        """

    def figures(self) -> str:
        """Prometheus' text of what is counted."""
        return ""

    def warm(self) -> None:
        """Do once what the first answer would wait for."""
        return

    async def close(self) -> None:
        """Called once after the last request, in the loop that served."""
        return


def server_metadata() -> dict[str, Any]:
    """What the server is."""
    return {"name": SERVER, "version": hansa.__version__, "extensions": []}
