"""Nodes in blocks: local training, exchange, runtimes, clock, checkpoints.

An algorithm (``algorithm.py``) is written once over a ``Block`` (``block.py``). ``host.py`` takes
a block through the rounds; ``runtime.py`` and ``processes.py`` say where blocks live.
"""

from hansa.engine.algorithm import Algorithm, Script
from hansa.engine.bench import Strategy
from hansa.engine.block import Block
from hansa.engine.calibrate import choose_strategy
from hansa.engine.checkpoint import latest, read_manifest
from hansa.engine.clock import Clock, DeviceClock, ModelledClock, WallClock
from hansa.engine.collect import Collector
from hansa.engine.energy import PHONES, Phone
from hansa.engine.exchange import Inbox, Send
from hansa.engine.job import Job
from hansa.engine.network import Network, WeightRule, nobody, star_to
from hansa.engine.optim import SGD, Adam, AdamW, Optimizer
from hansa.engine.phones import Phones
from hansa.engine.processes import Processes
from hansa.engine.runtime import Runtime, Simulate
from hansa.engine.schedule import Constant, Cosine, Schedule, Step
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.trainer import Trainer

__all__ = [
    "PHONES",
    "SGD",
    "Adam",
    "AdamW",
    "Algorithm",
    "Block",
    "CheckpointSettings",
    "Clock",
    "Collector",
    "Constant",
    "Cosine",
    "DeviceClock",
    "EvaluateSettings",
    "Inbox",
    "Job",
    "ModelledClock",
    "Network",
    "Optimizer",
    "Phone",
    "Phones",
    "Processes",
    "Runtime",
    "Schedule",
    "Script",
    "Send",
    "Simulate",
    "Step",
    "Strategy",
    "TrainSettings",
    "Trainer",
    "WallClock",
    "WeightRule",
    "choose_strategy",
    "latest",
    "nobody",
    "read_manifest",
    "star_to",
]
