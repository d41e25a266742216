#!/bin/sh
# SPDX-License-Identifier: MIT
#
# proxy --perfetto: a recorded migration that passes through the proxy is a trace with its messages, bytes and phases; also of a proxy that is stopped
# or killed on the way.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3
capture 11.1-return-path.stream

cat >replay.py <<'EOP'
"""replay.py BYTES SIGNAL|end|early: sends the capture's first BYTES through a proxy, which is then sent SIGNAL, or sees the end, or an answer to the end that
comes before it. Trace: trace.json."""
import os, signal, socket, sys, time
sys.path.insert(0, os.environ["SRC"] + "/tests/lib")
import godwit
from peer import Peer

data = open("11.1-return-path.stream", "rb").read()[:int(sys.argv[1])]
for name in ("in", "out"):
    if os.path.exists(name):
        os.unlink(name)
peer = Peer("out", answers_early=sys.argv[2] == "early")
with godwit.Run("proxy", "unix:in", "unix:out", "--perfetto=trace.json", *sys.argv[3:]) as proxy:
    source = socket.socket(socket.AF_UNIX)
    while source.connect_ex("in"):      # until it listens, which it does not say with --quiet
        assert proxy.process.poll() is None, proxy.stderr
        time.sleep(0.01)
    source.sendall(data)
    if sys.argv[2] in ("end", "early"):
        answer = b""
        while not answer.endswith(bytes.fromhex("0001000400000000")):
            got = source.recv(4096)
            assert got, f"the proxy closed the connection after {answer.hex()}"
            answer += got
        source.shutdown(socket.SHUT_WR)
        assert not source.recv(1)
        result = proxy.wait()
        assert result.status == 0, result
    else:
        proxy.wait_stdout("PAGES")      # what was shown is in the trace, or in its last run
        proxy.kill(getattr(signal, sys.argv[2]))
        proxy.wait()
    source.close()
peer.close()
EOP

cat >trace.py <<'EOP'
"""trace.py whole|cut (WHAT EXPRESSION)...: laws that hold for each trace, and expressions over `events`, `forward`, `back`, `phases`."""
import json, sys
text = open("trace.json").read()
events = json.loads(text if sys.argv[1] == "whole" else text + "]")
assert all(set(e) >= {"ph", "name", "pid", "tid", "ts"} for e in events)
slices = [e for e in events if e["ph"] == "X"]
names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
assert {e["tid"] for e in events} <= set(names), names
for tid in names:
    at = 0
    for e in (e for e in slices if e["tid"] == tid):
        assert e["ts"] >= at and e["dur"] >= 1, f"slices of {names[tid]} overlap: {e}"
        at = e["ts"] + e["dur"]
phases, inside = [], None
for e in (e for e in events if e["ph"] in "BE"):
    assert (e["ph"] == "E") == (inside is not None) and e["name"] == (inside or e["name"]), e
    inside = e["name"] if e["ph"] == "B" else None
    phases += [e["name"]] if e["ph"] == "B" else []
assert sys.argv[1] != "whole" or inside is None
track = lambda name: [e for e in slices if names[e["tid"]] == name]
forward, back = track("1 main ->"), track("1 main <-")
for what, expression in zip(sys.argv[2::2], sys.argv[3::2]):
    assert eval(expression), f"{what}: {json.dumps(events)[:6000]}"
EOP

trace() { # whole|cut (WHAT EXPRESSION)...
	python3 trace.py "$@" 2>why || failed "$2: $(tail -n 3 why | cut -c 1-2000)"
}
replay() { # ARGS of replay.py
	python3 replay.py "$@" 2>why || failed "replay $*: $(tail -n 3 why)"
}

size=$(expected 11.1-return-path size)
pages=$(python3 -c "import json; print(sum(b['used'] for b in json.load(open('$SRC/tests/captures/11.1-return-path.json'))['blocks']) // 4096)")
for detail in --quiet --verbose; do
	replay "$size" end $detail
	trace whole "phases ($detail)" 'phases in (["setup", "pre-copy", "switchover"], ["setup", "switchover"])' \
		"messages" '{"CONFIGURATION", "OPEN_RETURN_PATH", "PING", "START", "PAGES", "END", "DEVICE", "EOF", "DESCRIPTION"} <= {e["name"] for e in forward}' \
		"answers" '[e["name"] for e in back] == ["PONG", "SHUT", "CLOSED"]' \
		"token" 'back[0]["args"]["token"] == next(e for e in forward if e["name"] == "PING")["args"]["token"]' \
		"all pages, in runs" "sum(e['args']['pages'] + e['args']['zero_pages'] for e in forward if e['name'] == 'PAGES') >= $pages > 8 * len(forward)" \
		"rates" "sum(e['args']['bytes_per_second'] for e in events if e['ph'] == 'C' and e['name'] == 'bytes/s 1 main ->') == 10 * $size" \
		"first pass" '[e["name"] for e in events if e["ph"] == "i"].count("pass 1") == 1' \
		"connection" 'any(e["name"] == "CONNECTED" for e in events) and forward[-1]["name"] == "CLOSED"'
done

# The two directions are read by two threads: the answer to the end may be shown first.
replay "$size" early --quiet
trace whole "an answer that overtakes" 'phases in (["setup", "pre-copy", "switchover"], ["setup", "switchover"])'

replay 400000 SIGTERM
trace whole "stopped by SIGTERM" 'any(e["name"] == "PAGES" for e in forward)'
replay 400000 SIGINT
trace whole "stopped by SIGINT" 'any(e["name"] == "PAGES" for e in forward)'
replay 400000 SIGKILL
trace cut "killed" 'any(e["name"] == "START" for e in forward)'

rm -f in out
run 1 proxy unix:in unix:out --perfetto=nosuch/trace.json
err_has "nosuch/trace.json"
finish
