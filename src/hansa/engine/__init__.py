"""Nodes in blocks: local training, exchange, runtimes, clock, checkpoints.

An algorithm (``algorithm.py``) is written once over a ``Block`` (``block.py``). ``host.py`` takes
a block through the rounds; ``runtime.py`` and ``workers.py`` say where blocks live.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.engine.algorithm import Algorithm, Ending, Script
    from hansa.engine.asynchronous import Asynchronous
    from hansa.engine.block import Block
    from hansa.engine.exchange.asked import Asked
    from hansa.engine.exchange.exchange import Send, Share
    from hansa.engine.exchange.inbox import Inbox
    from hansa.engine.exchange.taking import Put, Take, Until
    from hansa.engine.exchange.words import Tell
    from hansa.engine.job import Job
    from hansa.engine.network import Network, WeightRule, nobody, star_to
    from hansa.engine.outcome import Outcome
    from hansa.engine.runtimes.by_site import BySite
    from hansa.engine.runtimes.checkpoint import latest, read_manifest
    from hansa.engine.runtimes.collect import Collector
    from hansa.engine.runtimes.processes import Processes
    from hansa.engine.runtimes.ray import Ray
    from hansa.engine.runtimes.runtime import Launch, Runtime, Simulate
    from hansa.engine.runtimes.workers import WorkerRuntime
    from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
    from hansa.engine.time.availability import Availability
    from hansa.engine.time.churn import Diurnal, Periods
    from hansa.engine.time.clock import Clock, WallClock
    from hansa.engine.time.device_clock import DeviceClock
    from hansa.engine.time.devices import DevicesClock
    from hansa.engine.time.energy import PHONES, Phone
    from hansa.engine.time.fleet import Fleet
    from hansa.engine.time.modelled import ModelledClock
    from hansa.engine.time.phones import Phones
    from hansa.engine.time.presence import Presence
    from hansa.engine.time.profile_files import FedScaleProfiles, FileProfiles
    from hansa.engine.time.profiles import DeviceClass, Devices, Profiles
    from hansa.engine.training.augment import Augmentation, Crop, Cutout, Flip
    from hansa.engine.training.bench import Strategy
    from hansa.engine.training.budget import Ask, Budget, Classes, Full, Time, Uniform
    from hansa.engine.training.guess import GeL
    from hansa.engine.training.optimizers import SGD, Adam, AdamW, Guessed, Optimizer
    from hansa.engine.training.schedules import Constant, Cosine, Schedule, Step
    from hansa.engine.training.strategy import choose_strategy
    from hansa.engine.training.trainer import Trainer


__all__ = [
    "PHONES",
    "SGD",
    "Adam",
    "AdamW",
    "Algorithm",
    "Ask",
    "Asked",
    "Asynchronous",
    "Augmentation",
    "Availability",
    "Block",
    "Budget",
    "BySite",
    "CheckpointSettings",
    "Classes",
    "Clock",
    "Collector",
    "Constant",
    "Cosine",
    "Crop",
    "Cutout",
    "DeviceClass",
    "DeviceClock",
    "Devices",
    "DevicesClock",
    "Diurnal",
    "Ending",
    "EvaluateSettings",
    "FedScaleProfiles",
    "FileProfiles",
    "Fleet",
    "Flip",
    "Full",
    "GeL",
    "Guessed",
    "Inbox",
    "Job",
    "Launch",
    "ModelledClock",
    "Network",
    "Optimizer",
    "Outcome",
    "Periods",
    "Phone",
    "Phones",
    "Presence",
    "Processes",
    "Profiles",
    "Put",
    "Ray",
    "Runtime",
    "Schedule",
    "Script",
    "Send",
    "Share",
    "Simulate",
    "Step",
    "Strategy",
    "Take",
    "Tell",
    "Time",
    "TrainSettings",
    "Trainer",
    "Uniform",
    "Until",
    "WallClock",
    "WeightRule",
    "WorkerRuntime",
    "choose_strategy",
    "latest",
    "nobody",
    "read_manifest",
    "star_to",
]

__getattr__ = front(__name__)
