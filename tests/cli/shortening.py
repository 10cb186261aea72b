"""The commands of the docs, made to take less."""

from __future__ import annotations

import re


def shortened(line: str) -> str:
    """The command with few rounds, and without a page where it shows none."""
    if line.startswith("hansa combine ensemble"):
        return f"{line} --set local.epochs=2 --set aggregate.rounds=3"
    if line.startswith("hansa combine merge examples/"):
        quick = "tasks.views=[mirror,roll] tasks.train=100 tasks.epochs=1 least_gain=0 sizes=[1,2]"
        return " --set ".join([line, *quick.split()])
    if line.startswith("hansa route run ") and "tiny_route.yaml" in line:
        quick = "domains=2 tasks_per_domain=2 base_steps=30 adapter_steps=30 train=200 hidden=32"
        quick = " ".join(f"tasks.{one}" for one in quick.split())
        quick += " noise=null regimes=[id] methods=[lorauter,base] fit_queries=2"
        return " --set ".join([line, *quick.split()])
    if line.startswith("hansa sweep"):
        return line.replace("--seeds 3", "--seeds 1").replace("--seeds 4", "--seeds 2")
    if line.startswith("hansa infer private demo"):
        return f"{line} --set train.epochs=2 --set queries=4"
    if line.startswith("hansa infer robust"):
        quick = "clients.local.epochs=3 attacks=[logit_flip,kvote] aggregators=[mean,trimmed_mean]"
        return " --set ".join([line, *quick.split()]) if "--resume" not in line else line
    if not line.startswith(("hansa learn", "hansa recommend examples")):
        return line
    line = re.sub(r" --rounds \d+", "", line)  # which would win
    page = "" if "--resume" in line or "--no-report" in line else " --no-report"
    return f"{line} --set rounds={4 if '--resume' in line else 2}{page}"
