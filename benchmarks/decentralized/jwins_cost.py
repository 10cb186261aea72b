"""What JWINS costs beside training, and how fast batched wavelets are: ratios of one run.

    python benchmarks/decentralized/jwins_cost.py            # about 2 minutes
    python benchmarks/decentralized/jwins_cost.py --smoke    # tiny sizes

96 nodes of GN-LeNet (89,834 parameters), 4-regular, 3 local steps of batch 8: the time of a round
of JWINS that is not local work (transforms, ranking, sizes, averaging), against local work.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pywt
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, fresh, markdown, peak_bytes, publish, seconds
from speed import images, job

from hansa.codec import WaveletTransform
from hansa.engine.runtimes.host import Host
from hansa.learn import JWINS
from hansa.models import GNLeNet


def cost(nodes: int, rounds: int) -> dict[str, float]:
    """Seconds a round of local work and of all else, medians."""
    work = job(images(nodes * 32), GNLeNet(), nodes, 3, 8, rounds=rounds, degree=4)
    work.algorithm = JWINS()
    block = work.block(np.arange(nodes))
    train, spent = block.train, []

    def timed(*arguments: object) -> None:
        began = time.perf_counter()
        train(*arguments)  # type: ignore[arg-type]
        spent.append(time.perf_counter() - began)

    block.train = timed  # type: ignore[method-assign, assignment]
    host = Host(work, block, work.exchange(), lambda _: None, lambda *_: None)
    whole = []
    for t in range(rounds):
        began = time.perf_counter()
        host._round(t)
        whole.append(time.perf_counter() - began)
    block.trainer.close()
    local, rest = np.array(spent[1:]), np.array(whole[1:]) - np.array(spent[1:])
    return {"local": float(np.median(local)), "rest": float(np.median(rest))}


def wavelets(rows: int, size: int) -> dict[str, float]:
    """Seconds to transform all rows and back: batched, and a loop over PyWavelets."""
    transform = WaveletTransform(size)
    x = torch.randn(rows, size)
    coefficients = transform.forward(x)
    forward = seconds(lambda: transform.forward(x), repeats=5)
    inverse = seconds(lambda: transform.inverse(coefficients), repeats=5)
    numbers = x.numpy()
    levels = [pywt.wavedec(row, "sym2", level=4) for row in numbers]
    forth = seconds(lambda: [pywt.wavedec(row, "sym2", level=4) for row in numbers], repeats=3)
    back = seconds(lambda: [pywt.waverec(parts, "sym2") for parts in levels], repeats=3)
    return {"forward": forth / forward, "inverse": back / inverse}


def memory(nodes: int, rounds: int) -> dict[str, float]:
    """Peak memory of many nodes with JWINS's state."""
    work = job(images(nodes * 16), GNLeNet(), nodes, 1, 8, rounds=rounds, degree=6, dynamic=True)
    work.algorithm = JWINS()
    block = work.block(np.arange(nodes))
    Host(work, block, work.exchange(), lambda _: None, lambda *_: None).run()
    return {"gib": peak_bytes() / 2**30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    smoke = parser.parse_args().smoke
    goals = Goals()
    here = "jwins_cost"
    sizes = {"nodes": 5, "rounds": 2} if smoke else {"nodes": 96, "rounds": 8}
    r = fresh("cost", here, smoke=smoke, **sizes)
    share = r["rest"] / r["local"]
    goals.add(
        f"{sizes['nodes']} nodes × 89,834: JWINS besides training / 3 local steps of batch 8",
        f"{r['rest'] * 1e3:.0f} ms / {r['local'] * 1e3:.0f} ms = {share:.0%}",
        "≤ 25 %",
        share <= 0.25,
    )
    count, size = (8, 2000) if smoke else (1024, 89_834)
    r = fresh("wavelets", here, smoke=smoke, rows=count, size=size)
    goals.add(
        f"{count} rows × {size:,}: loop over PyWavelets / batched, forward (inverse)",
        f"{r['forward']:.1f} ({r['inverse']:.1f})",
        "≥ 3",
        r["forward"] >= 3,
    )
    sizes = {"nodes": 7, "rounds": 1} if smoke else {"nodes": 1024, "rounds": 3}
    r = fresh("memory", here, smoke=smoke, **sizes)
    goals.add(
        f"{sizes['nodes']} nodes × GN-LeNet with JWINS's state: peak memory",
        f"{r['gib']:.2f} GiB",
        "< 8 GiB",
        r["gib"] < 8,
    )
    text = markdown(
        "What JWINS costs",
        "python benchmarks/decentralized/jwins_cost.py",
        Goals.HEADER,
        goals.rows,
    )
    publish("jwins_cost", text, smoke)


if __name__ == "__main__":
    main()
