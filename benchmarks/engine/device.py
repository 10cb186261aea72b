"""Every algorithm on a GPU beside the same run on the CPU: models that agree, and the seconds.

    python benchmarks/engine/device.py                  # where there is a CUDA device; minutes
    python benchmarks/engine/device.py --device cuda:1
    python benchmarks/engine/device.py --smoke          # two algorithms, the CPU beside itself

Small runs on digits, as ``golden.py`` has them, looped and stacked. Models after the last round are
compared by the norm of their difference over that of the CPU's: sums add up in another order, so
that the last bits differ, and what takes the largest of some numbers may take others. Where there
is no such device it says so and ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden import settings_of
from measure import machine, markdown, publish

NEAR = 1e-3
NARROW = 0.05  # in bfloat16
BY_SIZE = ("choco", "jwins", "topk")
"""Send the largest numbers, of which the last bits decide."""


def played(settings: dict[str, Any], device: str, strategy: str) -> tuple[Any, float]:
    """(models [n, D] on the CPU, seconds of the rounds)."""
    import torch

    from hansa.engine.runtimes.host import Host
    from hansa.experiment import prepare
    from hansa.experiment.runfile import RunFile

    job = prepare(RunFile.parse(settings | {"device": device}))
    job.strategy = strategy  # type: ignore[assignment]
    block = job.block(np.arange(job.nodes))
    began = time.perf_counter()
    Host(job, block, job.exchange(), lambda _: None, lambda *_: None).run()
    if device != "cpu":
        torch.cuda.synchronize()
    return block.rows.cpu(), time.perf_counter() - began


def line(name: str, strategy: str, precision: str, device: str) -> list[str]:
    """A row of the table."""
    from hansa.base.errors import HansaError

    settings = settings_of(name)
    settings["train"] = settings["train"] | {"precision": precision}
    cells = [name, strategy, precision]
    try:
        here, on_cpu = played(settings, "cpu", strategy)
        there, on_device = played(settings, device, strategy)
    except HansaError as error:
        return [*cells, "", "", "", f"refused: {error}".splitlines()[0]]
    off = float((there - here).norm() / here.norm())
    limit = NARROW if precision == "bfloat16" or name in BY_SIZE else NEAR
    reached = f"{'yes' if off <= limit else 'NO'} (at most {limit:g})"
    return [*cells, f"{on_cpu:.2f}", f"{on_device:.2f}", f"{off:.1e}", reached]


def main() -> None:
    parser = argparse.ArgumentParser(description="Every algorithm on a GPU beside the CPU")
    parser.add_argument("--device", default="cuda", help="torch's name of it")
    parser.add_argument("--smoke", action="store_true", help="two algorithms on the CPU")
    chosen = parser.parse_args()
    import torch

    from hansa.base.component import catalogue

    if not chosen.smoke and not torch.cuda.is_available():
        print("skipped: there is no CUDA device here")
        return
    device = "cpu" if chosen.smoke else chosen.device
    mine = [n for n, m in catalogue("algorithm").items() if m.__module__.startswith("hansa.")]
    names = ["dpsgd", "fedavg"] if chosen.smoke else sorted(mine)
    rows = []
    for name in names:
        for strategy in ("looped", "stacked"):
            for precision in ("float32", "bfloat16"):
                rows.append(line(name, strategy, precision, device))
                print(" | ".join(rows[-1]), flush=True)
    what = machine() if chosen.smoke else torch.cuda.get_device_name(device)
    columns = ["algorithm", "strategy", "precision", "CPU, s", f"{device}, s", "off", "near"]
    command = "python benchmarks/engine/device.py"
    publish("device", markdown(f"On {what}", command, columns, rows), chosen.smoke)


if __name__ == "__main__":
    main()
