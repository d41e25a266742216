# SPDX-License-Identifier: MIT
"""What a run found: medians and ratios, as a table on the terminal and as JSON."""
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict

from bench import NotHere
from works import FIGURES

DISTURBED = 0.10        # share of the processors somebody else had, above which figures mean little


def progress(text):
    """One line that replaces itself, on a terminal only; None removes it."""
    if sys.stderr.isatty():
        print("\r\x1b[K" + (text or ""), end="", file=sys.stderr, flush=True)


def names(groups):
    for rows in groups:
        for row in rows:
            print(f"{row.group + '/' + row.name:30} {row.what}")


def figures(row, work, samples):
    return [FIGURES[row.figure][1](s) for s in samples.get(work, ())]


def median(values):
    return statistics.median(values) if values else None


def three_digits(x):
    return f"{x:.{3 if x < 1 else 2 if x < 10 else 1 if x < 100 else 0}f}"


class Judged:
    """A row with what was measured."""

    def __init__(self, row, samples, failures):
        self.row = row
        self.godwit_all = figures(row, row.godwit, samples)
        self.reference_all = figures(row, row.reference, samples) if row.reference else []
        self.godwit, self.reference = median(self.godwit_all), median(self.reference_all)
        self.failure = failures.get(row.godwit) or failures.get(row.reference)
        self.ratio = self.godwit / self.reference if self.godwit is not None and self.reference else None
        self.verdict = self._verdict()

    def _verdict(self):
        if self.failure:
            return "not here" if isinstance(self.failure, NotHere) else "did not run"
        if not self.row.goal:
            return ""
        return "ok" if self.row.goal.met(self.ratio, self.godwit) else "missed"

    def goal_text(self):
        goal = self.row.goal
        if not goal:
            return ""
        limit = f"<= {goal.most:g}" if goal.most is not None else f">= {goal.least:g}"
        more = "+ " if goal.of == "more" else ""
        return limit if goal.of == "ratio" else f"{limit[:3]}{more}{limit[3:]} {self.unit()}"

    def unit(self):
        return FIGURES[self.row.figure][0]

    def value(self, x):
        return "" if x is None else f"{three_digits(x)} {self.unit()}"


HEAD = ("name", "godwit", "reference", "ratio", "goal", "")
WIDTHS = (24, 16, 16, 6, 12, 11)


def line(cells):
    return "  ".join(f"{c:<{w}}" if i in (0, 4, 5) else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, WIDTHS))).rstrip()


def table(judged):
    print("\n" + line(HEAD))
    for j in judged:
        ratio = "" if j.ratio is None else f"{j.ratio:.2f}"
        print(line((j.row.name, j.value(j.godwit), j.value(j.reference), ratio, j.goal_text(), j.verdict)))
    sys.stdout.flush()


class Results:
    """Everything a run found; groups are added as they end, and shown."""

    def __init__(self, bench, limits, failures):
        self.options = {"size": bench.size, "repeat": bench.repeat}
        self.limits, self.failures = limits, failures
        self.machine = describe_machine()
        self.rows, self.works = [], []

    def add(self, rows, samples):
        judged = [Judged(row, samples, self.failures) for row in rows]
        table(judged)
        self.rows += judged
        self.works += [(rows[0].group, work, runs) for work, runs in samples.items()]

    def failed(self):
        return any(not isinstance(e, NotHere) for e in self.failures.values())

    def others(self):
        """The share of the processors that was not ours, at the median of all samples."""
        return median([s["others"] for _, _, runs in self.works for s in runs if s.get("others") is not None])

    def as_dict(self):
        return {
            "machine": self.machine,
            "options": self.options,
            "limits_bytes_per_s": self.limits,
            "others_cpu_share": self.others(),
            "rows": [{
                "name": j.row.name, "group": j.row.group, "what": j.row.what, "unit": j.unit(),
                "godwit": j.godwit, "reference": j.reference, "ratio": j.ratio,
                "godwit_all": j.godwit_all, "reference_all": j.reference_all,
                "goal": asdict(j.row.goal) if j.row.goal else None, "verdict": j.verdict,
                "failure": str(j.failure) if j.failure else None,
            } for j in self.rows],
            "samples": [{"group": group, "work": work.title(), "runs": runs} for group, work, runs in self.works],
        }

    def write_json(self, path):
        with open(path, "w") as f:
            json.dump(self.as_dict(), f, indent=1)
            f.write("\n")


def first_line(path, start=""):
    try:
        with open(path) as f:
            return next((line.strip() for line in f if line.startswith(start)), "")
    except OSError:
        return ""


def describe_machine():
    return {
        "processor": first_line("/proc/cpuinfo", "model name").partition(":")[2].strip(),
        "processors": os.cpu_count(),
        "memory": first_line("/proc/meminfo", "MemTotal").partition(":")[2].strip(),
        "kernel": platform.release(),
        "huge_pages": first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "huge_pages_tmpfs": first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
    }


def closing(results, folder):
    others = results.others()
    missed = [j.row.name for j in results.rows if j.verdict == "missed"]
    print()
    if others is not None and others > DISTURBED:
        print(f"other programs had {others:.0%} of the processors meanwhile: these figures are disturbed")
    print("missed: " + ", ".join(missed) if missed else "no goal was missed")
    print(f"written: {os.path.relpath(os.path.join(folder, 'results.json'))} and results.svg")
