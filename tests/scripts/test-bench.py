#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench/run without a benchmark: rows are sound, goals are judged right, results become a table, JSON and a picture.

Nothing is timed and no QEMU is started.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import types
import xml.etree.ElementTree as xml

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.join(HERE, "..", "..", "bench")
sys.path[:0] = [os.path.join(BENCH, "lib"), os.path.join(HERE, "..", "lib"), BENCH]
import chart
import report
import rows
from bench import NotHere, NotRun
from meter import Stopwatch
from works import FIGURES, Receive


def run(*args):
    return subprocess.run([os.path.join(BENCH, "run"), *args], capture_output=True, text=True, timeout=60)


def test_rows():
    listed = [row for group in rows.GROUPS for row in group]
    names = [row.name for row in listed]
    assert len(set(names)) == len(names), "two rows of one name"
    for row in listed:
        assert row.figure in FIGURES, row
        assert hash(row.godwit) == hash(type(row.godwit)(**vars(row.godwit))), f"{row.name}: equal works are not one"
        assert row.godwit.title() and row.what
        assert row.goal is None or (row.goal.most is None) != (row.goal.least is None), row


def test_goals():
    assert rows.ratio_at_most(1.0).met(1.0, 99) and not rows.ratio_at_most(1.0).met(1.01, 0)
    assert rows.ratio_at_least(0.8).met(0.8, 0) and not rows.ratio_at_least(0.8).met(0.79, 99)
    assert rows.at_least(2).met(9, 2) and not rows.at_least(2).met(9, 1.9)
    assert rows.at_most_more(1000).met(6, 1200) and not rows.at_most_more(1000).met(6, 1201) and not rows.at_most_more(1000).met(None, 1)
    assert not rows.at_most(64).met(1, None), "what was not measured has not met its goal"


def judged():
    """One row of each verdict, from samples made up here."""
    sample = {"seconds": 2.0, "bytes": 1 << 30, "cpu": 3.0, "peak": 8 << 20, "others": 0.5}
    made = {Receive(): [sample, dict(sample, seconds=1.0), dict(sample, seconds=9.0)],
            Receive("b"): [dict(sample, seconds=4.0)]}
    table = [
        rows.Row("good", "g", "w", Receive(), Receive("b"), "seconds", rows.ratio_at_most(0.5)),
        rows.Row("bad", "g", "w", Receive(), None, "peak_mib", rows.at_most(7)),
        rows.Row("told", "g", "w & <more>", Receive("b"), Receive(), "cpu_per_gib"),
        rows.Row("broken", "g", "w", Receive("c"), Receive(), "seconds", rows.ratio_at_most(1)),
        rows.Row("absent", "g", "w", Receive("d"), Receive()),
    ]
    found = report.Results(types.SimpleNamespace(size=1 << 30, repeat=3), {"memcpy": 1e9, "disk_direct": "no disk"},
                           {Receive("c"): NotRun("it broke"), Receive("d"): NotHere("needs root")})
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        found.add(table, made)
    return found, shown.getvalue()


def test_judging():
    found, shown = judged()
    assert [j.verdict for j in found.rows] == ["ok", "missed", "", "did not run", "not here"]
    assert (found.rows[0].godwit, found.rows[0].ratio) == (2.0, 0.5), "median of three, over one"
    assert found.rows[2].godwit == 3.0 and found.rows[1].godwit == 8
    assert found.failed() and found.others() == 0.5
    assert "0.50" in shown and "<= 7 MiB" in shown and "did not run" in shown
    del found.failures[Receive("c")]
    assert not found.failed(), "what cannot be had here is no failure"


def test_files():
    found, _ = judged()
    with tempfile.TemporaryDirectory() as folder:
        found.write_json(os.path.join(folder, "r.json"))
        with open(os.path.join(folder, "r.json")) as f:
            read = json.load(f)
        chart.write(os.path.join(folder, "r.svg"), found)
        bars = xml.parse(os.path.join(folder, "r.svg")).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert [r["verdict"] for r in read["rows"]] == ["ok", "missed", "", "did not run", "not here"]
    assert read["rows"][3]["failure"] == "it broke" and read["limits_bytes_per_s"]["disk_direct"] == "no disk"
    assert len(bars) == 1 + 2, "the background, and a bar for each row with a ratio"


def test_options():
    assert "receive/receive" in run("--list").stdout
    assert run("--only", "receive*", "--list").stdout.count("\n") < run("--list").stdout.count("\n")
    for bad in (["--only", "nothing"], ["--size", "3"], ["--size", "1M"], ["--repeat", "0"]):
        assert run(*bad).returncode not in (0, 77), bad
    missing = run("--build", "/nonexistent")
    assert missing.returncode == 1 and "make builds it" in missing.stderr, missing


def test_stopwatch():
    with Stopwatch([os.getpid()]) as watch:
        while watch.seconds + time.monotonic() < 0.2:
            pass
    assert 0.2 <= watch.seconds < 20 and 0 < watch.cpu < 20, vars(watch)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(f"{name}: ok")
