"""Make the integers of a trained ResNet-20 that ``private_resnet.py`` asks under encryption.

    python benchmarks/infer/resnet20_ship.py resnet20.safetensors

Eight bits a weight, seven an activation, scales chosen on 512 training images; the file, which is
written beside this script, says how accurate the network is in real numbers and in integers of two
widths, on the 10,000 test images (w6a5: the first 2,000). Prints the digest that
``private_resnet.py`` expects.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from resnet20_train import ResNet20, accuracy, images, normalised
from safetensors.torch import load_file

from hansa.base.files import sha256
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.program_file import write_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def integer_accuracy(program: Program, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images that the integers put in their class."""
    right = 0
    for start in range(0, len(pixels), 250):
        rows = normalised(pixels[start : start + 250]).numpy()
        found = evaluate(program, read_rows(program, rows)).argmax(1)
        right += int((found == labels[start : start + 250].numpy()).sum())
    return right / len(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "resnet20_int8")
    parser.add_argument("--coarse", type=int, default=2000, help="images that w6a5 is tried on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = ResNet20()
    network.load_state_dict(load_file(given.checkpoint))
    network.eval()
    pixels, _, test_pixels, test_labels = images()
    chosen = np.random.default_rng(0).choice(len(pixels), 512, replace=False)
    rows = normalised(pixels[chosen]).numpy()
    real = accuracy(network, test_pixels, test_labels)
    print(f"real numbers: {real:.4f}", flush=True)
    said: dict[str, object] = {"made_by": "benchmarks/infer/resnet20_ship.py"}
    said["accuracy_real"] = real
    programs: dict[str, Program] = {}
    for name, widths, count in (("w6a5", (6, 5), given.coarse), ("w8a7", (8, 7), len(test_pixels))):
        compiled = compile_network(network, rows, Bits(*widths, accumulator=22), classes=CLASSES)
        program = programs[name] = compiled.program
        share = integer_accuracy(program, test_pixels[:count], test_labels[:count])
        said |= {f"accuracy_{name}": share, f"images_{name}": count}
        print(f"{name}: {share:.4f} of {count}, {program.accumulator_bits} bits", flush=True)
    best = programs["w8a7"]
    file = write_program(given.out, replace(best, facts=best.facts | said))
    print(f"{file}: {file.stat().st_size:,} bytes, sha256 {sha256(file)}")


if __name__ == "__main__":
    main()
