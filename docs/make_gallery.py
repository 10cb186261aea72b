"""Makes docs/gallery.md and its pictures: every example is run as it is, and shown by its own page.

    python docs/make_gallery.py [--page] [NAME ...]

Runs the examples of those names, or all, and writes the page anew from ``docs/gallery/made.json``,
which keeps what the others came to. An example that needs a data set finds it where HANSA_DATA
says; one that takes more than ``--limit`` seconds of CPU in a process is given up, and the page
says so. The runs go to a temporary folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from hansa.experiment.examples import examples
from hansa.experiment.settings_file import kind_of, read_yaml
from hansa.report import charts
from hansa.report.page import page_of, run_or_path

ROOT = Path(__file__).parents[1]
HOME = ROOT / "docs" / "gallery"
MADE = HOME / "made.json"
WALL = re.compile(r"(?:, ([^,]+?))? and [\d.]+ \w+ of wall time")
WIDEST = 620  # pixels of a picture, before they are made finer
MOST = 40_000  # bytes of a picture
NO_FOLDER = {"serve": "It answers until it is stopped, and so leaves no picture."}
TITLES = {
    "learn": "Learn together",
    "recommend": "Recommend",
    "combine ensemble": "Combine",
    "combine merge": "Merge",
    "route run": "Route",
    "infer robust": "Answer, though some lie",
    "infer private demo": "Ask in private",
    "infer serve": "Serve",
    "audit": "Audit",
    "sweep": "Sweep",
}
HEAD = """# Gallery

Every run file of [examples](../examples) with what its own page begins with: the first chart, and
what was done, how it ended and what it cost. Each runs by its name, wherever hansa is installed.
`python docs/make_gallery.py` made this page, on {machine}, one thread a process;
seconds are of CPU, of all processes together (wall time is left out: the machine did other things
meanwhile). [Compositions](compositions.md) of several systems have a page of their own.
"""


def command_of(name: str) -> str:
    """The command of hansa that runs an example."""
    return kind_of(read_yaml(ROOT / "examples" / f"{name}.yaml")).command


def picture(chart: Any, path: Path) -> None:
    """Write a chart as a small PNG of few colours."""
    import vl_convert

    spec = charts.spec_of(chart)
    if isinstance(spec.get("width"), int | float):  # what would be shrunk could not be read
        spec["width"] = min(spec["width"], WIDEST)
    png = vl_convert.vegalite_to_png(spec, vl_version=charts.vega_lite_version(), scale=1.5)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST:
        raise SystemExit(f"{path}: {path.stat().st_size} bytes, more than {MOST}")


def without_wall_time(sentence: str) -> str:
    """What a page says of a run, without the time that it took on a machine that did more."""
    return WALL.sub(lambda found: f" and {found[1]}" if found[1] else "", sentence)


def shown(folder: Path, name: str) -> dict[str, Any]:
    """What an example's page begins with: its sentence, its figures, its first chart as a file."""
    page = page_of(place := run_or_path(folder))
    of = page.read(place)
    with charts.unchecked():
        drawn = [chart for section in page.sections(of) for chart in section.charts]
        if drawn:
            picture(drawn[0], HOME / f"{name}.png")
    return {
        "sentence": without_wall_time(page.sentence(of)),
        "picture": _title(drawn[0]) if drawn else "",
    }


def _title(chart: Any) -> str:
    """A chart's title in words, for those who do not see it."""
    title = chart.title if isinstance(chart.title, str) else chart.title.text
    return " ".join(title) if isinstance(title, list) else str(title)


def run(name: str, limit: int) -> dict[str, Any]:
    """Run an example, and say what came of it or why nothing did."""
    command = command_of(name)
    if command.split()[-1] in NO_FOLDER:
        return {"command": command, "problem": NO_FOLDER[command.split()[-1]]}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        line = [sys.executable, "-m", "hansa.cli", *command.split(), name]
        done = subprocess.run(
            ["prlimit", f"--cpu={limit}:{limit + 5}", *line, "--out", str(folder)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if done.returncode == -signal.SIGXCPU:
            return {"command": command, "problem": f"It takes more than {limit} s of CPU."}
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        made = {"command": command, "cpu_seconds": round(used, 1), "commit": commit()}
        return made | shown(folder, name)


def commit() -> str:
    """The commit that last changed the code or the examples."""
    line = [
        "git",
        "-C",
        str(ROOT),
        "log",
        "-1",
        "--format=%h",
        "--abbrev=7",
        "--",
        "src",
        "examples",
    ]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    """The processor and its cores."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":")[1].strip() for line in said.splitlines() if "model name" in line]
    return f"{models[0] if models else 'an unknown processor'}, {os.cpu_count()} cores"


def _entry(name: str, remark: str, one: dict[str, Any]) -> list[str]:
    lines = [f"### {name}", "", f"{remark}.", ""]
    lines += [f"![{one['picture']}](gallery/{name}.png)", ""] if one["picture"] else []
    lines += [one["sentence"], "", "```sh", f"hansa {one['command']} {name}", "```", ""]
    cost = f"{one['cpu_seconds']:.0f} s, commit `{one['commit']}`"
    return [*lines, f"[The file](../examples/{name}.yaml); {cost}.", ""]


def _line(name: str, remark: str, one: dict[str, Any]) -> str:
    problem = f" {one['problem']}" if "problem" in one else ""
    return (
        f"- [{name}](../examples/{name}.yaml), `hansa {one['command']} {name}`: {remark}.{problem}"
    )


def page(made: dict[str, Any]) -> str:
    """The gallery in Markdown: what examples came to, then those that were not run."""
    lines = [HEAD.format(machine=made["machine"])]
    every = {name: made["examples"].get(name, {"command": command_of(name)}) for name in examples()}
    for command in dict.fromkeys([*TITLES, *(one["command"] for one in every.values())]):
        said = [(n, examples()[n], one) for n, one in every.items() if one["command"] == command]
        if said:
            lines += [f"## {TITLES.get(command, command)}", ""]
        for one in said:
            lines += _entry(*one) if "sentence" in one[2] else []
        if others := [_line(*one) for one in said if "sentence" not in one[2]]:
            lines += ["Without a picture here:", "", *others, ""]
    return "\n".join(lines[:-1]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--page", action="store_true", help="run none, write the page")
    parser.add_argument("--limit", type=int, default=60, metavar="SECONDS")
    chosen = parser.parse_args()
    HOME.mkdir(exist_ok=True)
    made = json.loads(MADE.read_text()) if MADE.exists() else {"examples": {}}
    made["machine"] = made["machine"] if chosen.page else machine()
    for name in [] if chosen.page else chosen.names or examples():
        made["examples"][name] = run(name, chosen.limit)
        print(name, made["examples"][name].get("cpu_seconds", "-"), flush=True)
        MADE.write_text(json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    (ROOT / "docs" / "gallery.md").write_text(page(made))


if __name__ == "__main__":
    main()
