"""Runs commands in turn, and measures them as whole processes: wall time, processor time, memory."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One run of a command."""

    wall: float
    processor: float
    peak: float
    files: int


@dataclass
class Contestant:
    """A command that is measured. `prepare` runs before each of its runs, unmeasured; `out` is emptied before."""

    name: str
    command: list
    prepare: object = None
    keeps: bool = False


def run(command, home, within_shell=False):
    """Measures a command that must succeed."""
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    peak, files = [0.0], [0]

    own = Path("/proc/self/comm").read_text()

    # Not getrusage: its figure starts with the memory of this script, out of which the command is forked. For a moment
    # that is so here, too.
    def watch(process):
        while True:
            try:
                if (process / "comm").read_text() == own:
                    continue
                status = (process / "status").read_text()
                peak[0] = max(peak[0], int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024)
                files[0] = max(files[0], len(os.listdir(process / "fd")))
            except (OSError, AttributeError):
                return
            time.sleep(0.005)

    output = home / "output"
    with output.open("wb") as stream:
        started = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], env=environment, stdout=stream, stderr=stream)
        watcher = threading.Thread(target=watch, args=[Path(f"/proc/{process.pid}")])
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed ({process.returncode}):\n{output.read_text(errors='replace')}")
    return Run(wall, usage.ru_utime + usage.ru_stime, peak[0], files[0])


def alternate(contestants, out, home, runs):
    """Lets the contestants take turns, each into an empty folder; gives the runs of each by name."""
    results = {contestant.name: [] for contestant in contestants}
    for _ in range(runs):
        for contestant in contestants:
            if not contestant.keeps:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                # What the run before left to be written is not this one's.
                os.sync()
            if contestant.prepare:
                contestant.prepare()
            results[contestant.name].append(run(contestant.command, home))
    shutil.rmtree(out, ignore_errors=True)
    return results


def median(runs, what="wall"):
    return statistics.median(getattr(run, what) for run in runs)


def table(title, results):
    """Prints the medians of all contestants."""
    runs = max(len(measured) for measured in results.values())
    first = next(iter(results))
    print(f"\n### {title}\n\n| | wall s | {first} = 1 | min–max s | processor s | peak MiB |\n|---|---|---|---|---|---|")
    reference = median(results[first])
    for name, measured in results.items():
        walls = [one.wall for one in measured]
        print(
            f"| {name} | {median(measured):.3f} | {median(measured) / reference:.2f} | {min(walls):.3f}–{max(walls):.3f} "
            f"| {median(measured, 'processor'):.2f} | {max(one.peak for one in measured):.1f} |"
        )
    print(f"\nMedians of {runs} alternating runs.", flush=True)


def ratio(results, name, other, what="wall"):
    """The ratio of two contestants' medians."""
    return median(results[name], what) / median(results[other], what)


def held(claim, value, limit, form="{:.2f}"):
    """Prints what came out beside what is aimed at."""
    verdict = "held" if value <= limit else "NOT HELD"
    print(f"- {claim}: {form.format(value)}, at most {form.format(limit)}: {verdict}", flush=True)
