"""Sites that cannot take part: how soon each stops, with which line, and whether others notice.

    python benchmarks/network/refusals.py
    python benchmarks/network/refusals.py --busy 4

Two of three sites wait for the third, as commands of their own. The third is started again and
again, each time with another mistake, and at last as it should be: then all train to the end.
``--busy`` keeps so many processes busy beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure

from hansa.engine.links import keys
from hansa.engine.links.keys import Key

NAMES = ("north", "south", "east")
RUN: dict[str, Any] = {
    "nodes": 3,
    "rounds": 3,
    "topology": {"name": "ring"},
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"local_steps": 2, "strategy": "looped"},
}
WITHIN = 5.0
"""Seconds in which a site has to stop."""
PATIENCE = 2.0
"""Seconds that a site waits for others where it is to be seen that it does not wait for ever."""
STUCK, TRAINING = 60.0, 300.0
"""Seconds after which a site that does not stop is ended, and one that trains."""

VERSION = "import hansa; hansa.__version__ = '99.1.0'\n"
PROTOCOL = """
from hansa.engine.links import hello
said = hello.Hello.__init__.__defaults__
other = tuple((98, 99) if one == hello.PROTOCOL else one for one in said)
hello.PROTOCOL, hello.Hello.__init__.__defaults__ = (98, 99), other
"""
CLOCK = """
import datetime
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(hours={hours})
datetime.datetime = Shifted
"""
"""What a process does first, to be a site of another version or with another clock."""
COMMAND = "import sys; from hansa.cli.app import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
        change: of the site's file, which it may alter in place.
        says: is in the line that it ends with.
        before: what its process does first.
        patient: seconds that it waits by its own setting before it stops.
    """

    name: str
    change: Callable[[dict[str, Any]], None]
    says: str
    before: str = ""
    patient: float = 0.0


@dataclass
class Outcome:
    """How a site ended."""

    status: int
    seconds: float
    cpu: float
    line: str
    wrong: list[str] = field(default_factory=list)


class Scene:
    """Three sites in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
        (folder / "other.yaml").write_text(yaml.safe_dump(RUN | {"rounds": 4}))
        (folder / "damaged.key").write_text("no key")
        made = [Key.generate(name) for name in NAMES]
        for key in (*made, Key.generate("stranger")):
            key.save(folder / f"{key.name}.key")
        day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
        keys._signed("expired", now - 3 * day, now - day).save(folder / "expired.key")
        made[2].save(folder / "open.key")
        for name, mode in (("damaged", 0o600), ("open", 0o644)):
            (folder / f"{name}.key").chmod(mode)
        self.strangers = [Key.generate(name).line for name in NAMES[:2]]
        self.taken = socket.create_server(("127.0.0.1", 0))
        with contextlib.ExitStack() as stack:
            ears = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NAMES]
            places = [f"127.0.0.1:{ear.getsockname()[1]}" for ear in ears]
        for k, name in enumerate(NAMES):
            peers = [
                {"name": NAMES[j], "nodes": [j], "address": places[j], "key": made[j].line}
                for j in range(3)
                if j != k
            ]
            site = {"verb": "node", "name": name, "run": "run.yaml", "nodes": [k]}
            site |= {"listen": places[k], "key": f"{name}.key", "peers": peers, "data": "share"}
            self.write(name, site | {"tells": ["sizes", "labels"], "patience": {"start": 3600.0}})

    def write(self, name: str, site: dict[str, Any]) -> None:
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(site))

    def read(self, name: str) -> dict[str, Any]:
        site: dict[str, Any] = yaml.safe_load((self.folder / f"{name}.yaml").read_text())
        return site

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def start(self, name: str, before: str = "") -> subprocess.Popen[bytes]:
        """A site as a command of its own, with what it says in a file."""
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", before + COMMAND, "node", "run", f"{name}.yaml"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def outcome(self, case: Case) -> Outcome:
        """The third site with a mistake, from its start to its end."""
        site = self.read("east")
        case.change(site)
        self.write("mistaken", site)
        began = time.monotonic()
        process = self.start("mistaken", case.before)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - began > STUCK:
                process.kill()
            time.sleep(0.01)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        cpu = ended[2].ru_utime + ended[2].ru_stime
        lines = [line for line in self.said("mistaken").splitlines() if "error: " in line]
        done = Outcome(process.returncode, seconds, cpu, lines[0] if lines else "")
        if done.status != 2:
            done.wrong.append(f"ended with status {done.status}")
        if case.says not in done.line or len(lines) != 1:
            done.wrong.append(f"said {lines or self.said('mistaken')[-500:]}")
        if seconds > WITHIN + case.patient:
            done.wrong.append(f"took {seconds:.1f} s")
        if (self.folder / "runs" / "run-east").exists():
            done.wrong.append("left a run folder")
        return done


Change = Callable[[dict[str, Any]], None]


def sets(**settings: Any) -> Change:
    """Settings of the site's own."""
    return lambda site: site.update(settings)


def peers(*which: int, **settings: Any) -> Change:
    """Settings of peers."""

    def change(site: dict[str, Any]) -> None:
        for k in which:
            site["peers"][k].update(settings)

    return change


def twice(name: str) -> Change:
    """A setting that is the same of both peers."""
    return lambda site: site["peers"][1].update({name: site["peers"][0][name]})


def apart(address: str) -> Change:
    """The second peer and this site are not where the other looks for them."""

    def change(site: dict[str, Any]) -> None:
        site |= {"listen": "127.0.0.1:0", "patience": {"start": PATIENCE}}
        site["peers"][1]["address"] = address

    return change


def cases(scene: Scene) -> list[Case]:
    """All mistakes."""
    taken = f"127.0.0.1:{scene.taken.getsockname()[1]}"
    with socket.create_server(("127.0.0.1", 0)) as ear:
        nobody = f"127.0.0.1:{ear.getsockname()[1]}"
    return [
        Case("a setting that there is none of", sets(lissten=taken), "lissten"),
        Case("a value that is none", sets(nodes="two"), "nodes"),
        Case("two peers with one address", twice("address"), "the same as address of peers.0"),
        Case("two peers with one key", twice("key"), "is the same as key of peers.0"),
        Case("no file of a key", sets(key="none.key"), "there is no such file"),
        Case("a key that others can read", sets(key="open.key"), "can be read by others"),
        Case("a damaged key", sets(key="damaged.key"), "holds no private key"),
        Case("an expired key", sets(key="expired.key"), "has expired on"),
        Case("a port in use", sets(listen=taken), "cannot be listened at"),
        Case("an address of another machine", sets(listen="192.0.2.1:7"), "cannot be listened at"),
        Case("settings that differ", sets(run="other.yaml"), "different settings of: rounds"),
        Case("another version of hansa", sets(), "install one version", VERSION),
        Case("another protocol", sets(), "install one version", PROTOCOL),
        Case("a key on nobody's list", sets(key="stranger.key"), "does not know this site's key"),
        Case("peers with other keys than listed", strangers(scene), "was expected"),
        Case("nobody at a peer's address", apart(nobody), "nobody listens at", patient=PATIENCE),
        Case("no machine of a peer's name", apart("none.invalid:7"), "none.inv", patient=PATIENCE),
    ]


def strangers(scene: Scene) -> Change:
    """Keys on the list that are nobody's."""

    def change(site: dict[str, Any]) -> None:
        for one, key in zip(site["peers"], scene.strangers, strict=True):
            one["key"] = key

    return change


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing else."""
    spinning = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for one in spinning:
        one.start()
    yield
    for one in spinning:
        one.kill()
        one.join()


def _spin() -> None:
    while True:
        pass


def wait_for(scene: Scene, name: str, process: subprocess.Popen[bytes]) -> None:
    """Until a site waits for the others."""
    while "waiting for" not in scene.said(name):
        if process.poll() is not None:
            raise RuntimeError(scene.said(name))
        time.sleep(0.05)


def measured(folder: Path, asked: argparse.Namespace) -> tuple[list[list[str]], bool]:
    """(a row for each mistake, whether all is as it should be)."""
    scene, rows, right = Scene(folder), [], True
    others = {name: scene.start(name) for name in NAMES[:2]}
    mistakes = cases(scene)
    try:
        for name, process in others.items():
            wait_for(scene, name, process)
        with busy(asked.busy):
            for case in mistakes[8:11] if asked.smoke else mistakes:
                done = scene.outcome(case)
                unharmed = all(process.poll() is None for process in others.values())
                line = done.line.partition("error: ")[2].replace(f"{folder}/", "")
                limit = f"{done.seconds:.1f} of {WITHIN + case.patient:g}"
                row = [case.name, limit, f"{done.cpu:.2f}", line, "yes" if unharmed else "NO"]
                rows.append(row)
                print(" | ".join([*row, *done.wrong]), flush=True)
                right &= unharmed and not done.wrong
        # Where only a clock differs nobody is refused, and after all that the run goes well.
        others["east"] = scene.start("east", CLOCK.format(hours=asked.hours))
        statuses = [process.wait(TRAINING) for process in others.values()]
        well = statuses == [0, 0, 0]
        name = f"a clock {asked.hours:+d} h: takes part, and {RUN['rounds']} rounds are trained"
        rows.append([name, "", "", "", "yes" if well else "NO"])
        if not well:
            print(*(scene.said(name) for name in NAMES), sep="\n")
    finally:
        for process in others.values():
            process.kill()
            process.wait()
        scene.taken.close()
    return rows, right and well


def main() -> int:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, default=0, help="processes that use the cores, too")
    parser.add_argument("--hours", type=int, default=1, help="by which a clock is ahead")
    parser.add_argument("--smoke", action="store_true", help="a few mistakes, kept nowhere")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="hansa-refusals-") as folder:
        rows, right = measured(Path(folder), asked)
    command = f"python benchmarks/network/refusals.py --busy {asked.busy} --hours {asked.hours}"
    header = ["mistake", "seconds", "CPU s", "line", "others unharmed"]
    table = measure.markdown("", command, header, rows).removeprefix("# \n")
    text = (
        "Two of three sites wait for the third, which is started with one mistake after the other. "
        f"Where it waits for others by its own `patience.start`, {PATIENCE:g} s here, those "
        f"seconds are on top of the {WITHIN:g}. The machine's load was {load:.1f} when it began."
    )
    measure.section("networks", "Refusals", f"{text}\n{table}", asked.smoke)
    return 0 if right or asked.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
