"""Orion answers images under encryption: a child of ``private_orion.py`` in its own interpreter.

    python peers_orion.py 1|2 mlp|lenet FILE.npz COUNT

``1`` is orion-fhe (one process holds the key and the weights, no wire format), ``2`` orion-v2
(compiler, evaluator and client apart, keys and ciphertexts as bytes). FILE holds the weights of the
network with squares in torch's names, ``images`` and ``labels``. Prints one line of JSON.

orion-fhe imports torchvision for data sets that nobody asks for here; where the interpreter has
none, an empty module stands in for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import resource
import sys
import time
import types
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

# At most 217 bits (N = 2^13) and 421 bits (N = 2^14) of modulus: 128 bits of security by the table
# of HomomorphicEncryption.org. The first is Orion's own preset for this network.
PRESETS: dict[str, dict[str, Any]] = {
    "mlp": {"logn": 13, "logq": [29, 26, 26, 26, 26, 26], "logp": [29, 29], "scale": 26},
    "lenet": {"logn": 14, "logq": [34, *[29] * 11], "logp": [34, 34], "scale": 29},
}


def network(on: Any, name: str) -> Any:
    """The same layers as ``measure_private`` has, of Orion's modules; names as in a Sequential."""
    if name == "mlp":
        layers = [
            on.Flatten(),
            *(on.Linear(784, 128), on.BatchNorm1d(128), on.Quad()),
            *(on.Linear(128, 128), on.BatchNorm1d(128), on.Quad()),
            on.Linear(128, 10),
        ]
    else:
        layers = [
            *(on.Conv2d(1, 6, 5, padding=2), on.BatchNorm2d(6), on.Quad(), on.AvgPool2d(2)),
            *(on.Conv2d(6, 16, 5), on.BatchNorm2d(16), on.Quad(), on.AvgPool2d(2)),
            on.Flatten(),
            *(on.Linear(400, 120), on.BatchNorm1d(120), on.Quad()),
            *(on.Linear(120, 84), on.BatchNorm1d(84), on.Quad()),
            on.Linear(84, 10),
        ]

    class Network(on.Module):
        def __init__(self) -> None:
            super().__init__()
            for i, layer in enumerate(layers):
                setattr(self, f"layer{i}", layer)

        def forward(self, x: Any) -> Any:
            for i in range(len(layers)):
                x = getattr(self, f"layer{i}")(x)
            return x

    return Network()


def loaded(net: Any, arrays: Any) -> Any:
    """The network with the weights of the file."""
    state = {f"layer{name}": torch.from_numpy(arrays[name]) for name in arrays if name[0].isdigit()}
    missing = net.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing.unexpected_keys
    # Orion's pools are convolutions of ones, which no state has.
    pools = {name for name, layer in net.named_children() if "Pool" in type(layer).__name__}
    absent = {name.partition(".")[0] for name in missing.missing_keys if "weight" in name}
    assert absent <= pools, absent
    net.eval()
    return net


def one_by_one(images: Any) -> DataLoader[Any]:
    """Images for ranges; Orion takes the batch size of inference from the loader."""
    return DataLoader(TensorDataset(torch.from_numpy(images)), batch_size=1)


class Clock:
    """CPU and wall seconds by name."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu[name] = self.cpu.get(name, 0) + time.process_time() - cpu
        self.wall[name] = self.wall.get(name, 0) + time.perf_counter() - wall


def ciphertext_bytes(logn: int, levels: int, count: int) -> int:
    """Two polynomials of 8-byte words for each level and one more."""
    return count * 2 * (levels + 1) * (8 << logn)


def first(name: str, arrays: Any, images: torch.Tensor, clock: Clock) -> dict[str, Any]:
    """orion-fhe."""
    if importlib.util.find_spec("torchvision") is None:
        stub = types.ModuleType("torchvision")
        stub.datasets = stub.transforms = types.SimpleNamespace()  # type: ignore[attr-defined]
        sys.modules["torchvision"] = stub
    import orion
    import orion.nn as on

    preset = PRESETS[name]
    chain = {"LogN": preset["logn"], "LogQ": preset["logq"], "LogP": preset["logp"]}
    chain |= {"LogScale": preset["scale"], "H": 192, "RingType": "ConjugateInvariant"}
    with clock.of("setup"):
        scheme = orion.init_scheme({"ckks_params": chain, "orion": {"debug": False}})
        net = loaded(network(on, name), arrays)
        orion.fit(net, one_by_one(arrays["calibration"]))
        level = orion.compile(net)
    net.he()
    logits, sent, received = [], 0, 0
    for image in images:
        with clock.of("client"):
            sealed = orion.encrypt(orion.encode(image.unsqueeze(0), level))
        with clock.of("server"):
            reply = net(sealed)
        with clock.of("client"):
            logits.append(reply.decrypt().decode().flatten()[:10].tolist())
        sent += ciphertext_bytes(preset["logn"], level, len(sealed.ids))
        received += ciphertext_bytes(preset["logn"], reply.level(), len(reply.ids))
    keys = len(scheme.lt_evaluator.saved_rotation_keys) + 1
    # A switching key has a pair of polynomials over all primes for each group of logq by logp.
    primes, special = len(preset["logq"]), len(preset["logp"])
    one = 2 * -(-primes // special) * (primes + special) * (8 << preset["logn"])
    return {"logits": logits, "up": sent, "down": received, "keys": keys * one, "counted": True}


def second(name: str, arrays: Any, images: torch.Tensor, clock: Clock) -> dict[str, Any]:
    """orion-v2: everything that crosses from one side to the other is bytes."""
    import orion_compiler.nn as on
    from lattigo import ckks, rlwe
    from orion_compiler import CKKSParams, Compiler
    from orion_evaluator import Evaluator, Model

    preset = PRESETS[name]
    with clock.of("setup"):
        net = loaded(network(on, name), arrays)
        params = CKKSParams(
            preset["logn"], tuple(preset["logq"]), tuple(preset["logp"]), preset["scale"]
        )
        compiler = Compiler(net, params)
        compiler.fit(one_by_one(arrays["calibration"]))
        blob = compiler.compile().to_bytes()
        model = Model.load(blob)
        facts, manifest, level = model.client_params()
        client = ckks.Parameters.from_dict(facts)
        maker = rlwe.KeyGenerator(client)
        secret = maker.gen_secret_key()
        public = maker.gen_public_key(secret)
        relin = maker.gen_relin_key(secret) if manifest["needs_rlk"] else None
        turns = [maker.gen_galois_key(secret, int(one)) for one in manifest["galois_elements"]]
        keys = rlwe.MemEvaluationKeySet(relin, turns).marshal_binary()
        evaluator = Evaluator(facts, keys)
    encoder = ckks.Encoder(client)
    seal, unseal = rlwe.Encryptor(client, public), rlwe.Decryptor(client, secret)
    slots, scale = client.max_slots(), client.default_scale()
    logits, sent, received = [], 0, 0
    for image in images:
        with clock.of("client"):
            numbers = image.flatten().double().tolist()
            padded = numbers + [0.0] * (slots - len(numbers))
            request = seal.encrypt_new(encoder.encode(padded, level, scale)).marshal_binary()
        with clock.of("server"):
            replies = evaluator.forward(model, [request])
        with clock.of("client"):
            answer = unseal.decrypt_new(rlwe.Ciphertext.unmarshal_binary(replies[0]))
            logits.append(list(encoder.decode(answer, slots)[:10]))
        sent, received = sent + len(request), received + sum(map(len, replies))
    return {
        "logits": logits,
        "up": sent,
        "down": received,
        "keys": len(keys),
        "model": len(blob),
        "counted": False,
    }


def main() -> None:
    version, name, path, count = sys.argv[1:]
    arrays = dict(np.load(path))
    images = torch.from_numpy(arrays["images"][: int(count)])
    clock = Clock()
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr), torch.no_grad():
        facts = (first if version == "1" else second)(name, arrays, images, clock)
    scores = np.array(facts.pop("logits"))
    right = float((scores.argmax(1) == arrays["labels"][: len(scores)]).mean())
    off = np.abs(scores - arrays["logits"][: len(scores)])
    facts |= {
        "accuracy": right,
        "largest_error": float(off.max()),
        "same_class": float((scores.argmax(1) == arrays["logits"][: len(scores)].argmax(1)).mean()),
        "count": len(scores),
        "cpu": clock.cpu,
        "wall": clock.wall,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
