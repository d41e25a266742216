#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Seeing a standby: godwit top, its metrics in a file and over HTTP, and what systemd is told; with primaries made by hand."""
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from colo import Standby
from coloprimary import Primary
from mfdsource import page_bytes

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\}'
SAMPLE = re.compile(rf"({NAME})({LABELS})? (-?[0-9.]+(?:e[+-]?\d+)?)$")


def parse(text):
    """Prometheus' text format, as strict as its reader: {(name, labels): value}. TYPE once for each name, before its samples, which stand together."""
    types, samples, helped, family = {}, {}, set(), None
    assert text.endswith("\n"), repr(text[-50:])
    for line in text.splitlines():
        if found := re.match(rf"# HELP ({NAME}) .", line):
            assert found[1] not in helped, line
            helped.add(found[1])
            continue
        if found := re.match(rf"# TYPE ({NAME}) (gauge|counter|summary)$", line):
            assert found[1] not in types, line
            types[found[1]] = found[2]
            family = found[1]
            continue
        found = SAMPLE.match(line)
        assert found, f"no sample: {line!r}"
        base = re.sub("_(sum|count)$", "", found[1]) if types.get(re.sub("_(sum|count)$", "", found[1])) == "summary" else found[1]
        assert base == family, f"{found[1]} stands behind {family}"
        assert found[1].endswith("_total") == (types[base] == "counter"), line
        assert (found[1], found[2]) not in samples, line
        samples[found[1], found[2]] = float(found[3])
    return samples


def checkpoints(p, n):
    p.guest()
    for salt in range(n):
        p.checkpoint({i: page_bytes(i, salt) for i in range(10)}, zero=[20, 21], salt=salt)


def top(standby, *options):
    return godwit.run("top", standby.dir, "--once", *options).ok()


def table(folder):
    with Standby(folder, name=None) as standby:
        assert "no guest is protected here" in top(standby).stdout
        with contextlib.ExitStack() as stack:
            checkpoints(stack.enter_context(Primary(standby.socket)), 3)
            checkpoints(stack.enter_context(Primary(standby.socket, 2)), 5)
            standby.wait_epoch(5)
            text = top(standby).stdout
            assert re.search(r"^GUEST +STATE +EPOCH +AGE +PAUSE p50 +p99 +PAGES +DISK +NETWORK +LEASE$", text, re.M), text
            row = r"^vm-{} +protected +{} +[\d.]+ m?s +[\d.]+ ms +[\d.]+ ms +12 +- +- +-$"
            assert re.search(row.format(1, 3), text, re.M) and re.search(row.format(2, 5), text, re.M), text
            one, two = [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]
            assert (one["vm"], one["state"], one["epoch"], one["checkpoints"], one["dirty_pages_total"]) == ("vm-1", "protected", 3, 3, 36), one
            assert (two["channels"], two["durable"], two["place"], two["disk"], two["lease_left_us"]) == (2, 0, "source-runs", None, None), two
            assert 0 < two["pause_us_p50"] <= two["pause_us_p99"] and 0 <= two["age_us"] < 60e6 and two["ram_bytes"] > 0, two
        standby.wait_event("ended", match=lambda e: e["vm"] == "vm-1")
        standby.wait_event("ended", match=lambda e: e["vm"] == "vm-2")
        rows_of = lambda: [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]  # pylint: disable=unnecessary-lambda-assignment
        deadline = time.monotonic() + 30 * godwit.patience()
        while {r["state"] for r in rows_of()} != {"waiting"}:
            assert time.monotonic() < deadline, rows_of()
        assert rows_of()[0]["epoch"] is None
    godwit.run("top", os.path.join(folder, "nowhere"), "--once").fails(godwit.FAILED, "cannot read the guests")
    godwit.run("top", folder, "--interval=0.001").fails(godwit.USAGE, "at least 0.01 seconds")


def say(standby, line):
    """To its control socket, as a guard does."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(standby.folder, "control"))
        s.sendall(line.encode() + b"\n")
        return s.makefile().readline().strip()


def guarded(folder):
    """What its guard knows is shown as it was said last; a lease runs out if nobody says more. What no guard says is refused, and changes nothing."""
    path = os.path.join(folder, "godwit.prom")
    with Standby(folder, f"--metrics-file={path}") as standby, Primary(standby.socket) as p:
        checkpoints(p, 1)
        standby.wait_epoch(1)
        assert say(standby, "guard disk mirrored network held lease_left_us 600000000") == "ok"
        for wrong in ("guard ", "guard disk", "guard disk x network", "guard disk X network held", "guard disk not-kept network held lease_left_us",
                      "guard disk not-kept network held lease_left_us -1", "guard disk not-kept network held lease_left_us 1 more",
                      "guard disk not-kept network held lease_left_us 9999999999999999999", f"guard disk {'a' * 40} network held", "guard disk a\tb network held"):
            assert say(standby, wrong).startswith("error"), wrong
        one, = [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]
        assert (one["disk"], one["network"]) == ("mirrored", "held") and 0 < one["lease_left_us"] < 600e6, one
        assert re.search(r" mirrored +held +\d+\.\d s$", top(standby).stdout, re.M), top(standby).stdout
        label, deadline = '{vm="vm"%s}', time.monotonic() + 30 * godwit.patience()
        while True:
            with open(path, encoding="utf-8") as f:
                samples = parse(f.read())
            if ("godwit_lease_left_seconds", label % "") in samples:
                break
            assert time.monotonic() < deadline, samples
            time.sleep(0.01)
        assert 0 < samples["godwit_lease_left_seconds", label % ""] < 600, samples
        assert samples["godwit_standby_disk", label % ',state="mirrored"'] == samples["godwit_standby_network", label % ',state="held"'] == 1, samples
        assert say(standby, "guard disk none network not-held lease_left_us 1000") == "ok"
        time.sleep(0.002)
        one, = [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]
        assert (one["disk"], one["network"], one["lease_left_us"]) == ("none", "not-held", 0), one
        assert say(standby, "guard disk partly network none") == "ok"
        one, = [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]
        assert (one["disk"], one["network"], one["lease_left_us"]) == ("partly", "none", None), one


def again_and_again(folder):
    with Standby(folder) as standby, Primary(standby.socket) as p:
        checkpoints(p, 1)
        with godwit.Run("top", standby.dir, "--interval=0.02", "--json") as t:
            deadline = time.monotonic() + 30 * godwit.patience()
            while len(t.stdout.splitlines()) < 3:
                assert time.monotonic() < deadline, t.stdout
                time.sleep(0.01)
            p.checkpoint(salt=9)
            while '"epoch":2,' not in t.stdout:
                assert time.monotonic() < deadline, t.stdout
                time.sleep(0.01)
            t.kill(signal.SIGTERM)
            assert t.wait().status == godwit.DONE


def died(folder):
    standby = Standby(folder, "--durable")
    with Primary(standby.socket) as p:
        checkpoints(p, 2)
        standby.kill(signal.SIGKILL)
        standby.wait()
    row, = [json.loads(line) for line in top(standby, "--json").stdout.splitlines()]
    assert row["state"] == "died", row


def check_metrics(text, vm="vm-1"):
    samples = parse(text)
    label = f'{{vm="{vm}"}}'
    assert samples["godwit_standby_protected", label] == 1 and samples["godwit_standby_checkpoints_total", label] == 4, text
    assert 0 <= samples["godwit_standby_age_seconds", label] < 600 and samples["godwit_standby_dirty_pages", label] == 12, text
    assert samples["godwit_standby_pause_seconds_count", label] == 4, text
    assert 0 < samples["godwit_standby_pause_seconds", f'{{vm="{vm}",quantile="0.5"}}'] <= samples["godwit_standby_pause_seconds_sum", label], text


def file(folder):
    """Replaced as a whole: every reading of it is one."""
    path = os.path.join(folder, "godwit.prom")
    with Standby(folder, f"--metrics-file={path}", name='a "name" \\') as standby, Primary(standby.socket) as p:
        with open(path, encoding="utf-8") as f:
            assert not [s for s in parse(f.read()) if s[0] != "godwit_standby_protected"]
        checkpoints(p, 4)
        standby.wait_epoch(4)
        first, deadline = os.stat(path).st_ino, time.monotonic() + 30 * godwit.patience()
        while True:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            parse(text)
            if os.stat(path).st_ino != first and 'checkpoints_total{vm="a \\"name\\" \\\\"} 4' in text:
                break
            assert time.monotonic() < deadline, text
            time.sleep(0.01)
        check_metrics(text, 'a \\"name\\" \\\\')
        assert os.stat(path).st_mode & 0o777 == 0o644
    assert sorted(os.listdir(folder)) == ["godwit.prom", "guests"] or "standby" in os.listdir(folder)
    assert not [n for n in os.listdir(folder) if n.startswith(".")], os.listdir(folder)
    godwit.run("standby", f"unix:{folder}/s", folder, f"--metrics-file={folder}/no/where").fails(godwit.FAILED, "cannot write metrics to .*no/where")


def get(port, path, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=60) as r:
            return r.status, r.headers["Content-Type"], r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, None, None


def http(folder):
    with Standby(folder, "--metrics-listen=127.0.0.1:0", name=None) as standby, Primary(standby.socket) as p:
        port = int(re.search(r"metrics at http://127.0.0.1:(\d+)/metrics", standby.stderr)[1])
        checkpoints(p, 4)
        standby.wait_epoch(4)
        status, kind, text = get(port, "/metrics")
        assert status == 200 and kind.startswith("text/plain; version=0.0.4"), (status, kind)
        check_metrics(text)
        assert get(port, "/")[0] == 404 and get(port, "/metrics", "POST")[0] == 405
        with socket.create_connection(("127.0.0.1", port)) as s:       # rubbish is no harm
            s.sendall(b"\xff" * 5000 + b"\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                s.recv(100)
        check_metrics(get(port, "/metrics")[2])
        taken = godwit.run("standby", f"unix:{folder}/s", folder, f"--metrics-listen=127.0.0.1:{port}")
        taken.fails(godwit.FAILED, "cannot serve metrics at")
    godwit.run("standby", f"unix:{folder}/s", folder, "--metrics-listen=nonsense").fails(godwit.FAILED, "expected HOST:PORT")


def systemd(folder):
    """READY when it listens, STATUS with the guests, WATCHDOG again and again, STOPPING."""
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(60 * godwit.patience())
        env = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000"}
        with Standby(folder, env=env) as standby, Primary(standby.socket) as p:
            heard = []
            while "READY=1" not in heard:
                heard.append(s.recv(1000).decode())
            checkpoints(p, 1)
            while "STATUS=1 of 1 guests protected" not in heard:
                heard.append(s.recv(1000).decode())
            assert heard.count("WATCHDOG=1") > 0 and heard.count("READY=1") == 1, heard
            standby.kill(signal.SIGTERM)
            while "STOPPING=1" not in heard:
                heard.append(s.recv(1000).decode())
            assert standby.wait().status == godwit.DONE


def main():
    for case in [table, guarded, again_and_again, died, file, http, systemd]:
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-top.") as folder:
            case(folder)
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
