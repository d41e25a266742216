#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is the table of `godwit plan --table` what a real QEMU does? All pairs of QEMU's capabilities and parameters, and each
of them with each transport, are tried in both roles; every difference is a failure.

test-combinations.py GODWIT 7.2|10.0|11.1. What the table says of crashes is not tried. A QEMU that crashes is a failure.
"""
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from qmp import QmpClosed, QmpError, QmpTimeout
from vm import Unavailable, Vm, get_qemu, skip

GODWIT, VERSION = sys.argv[1:]
PARAMETERS = {  # ability: parameter, value, value that switches it off
    "zlib": ("multifd-compression", "zlib", "none"),
    "zstd": ("multifd-compression", "zstd", "none"),
    "tls": ("tls-creds", "tls0", ""),
    "direct-io": ("direct-io", True, False),
}
TRANSPORTS = ("unix", "tcp", "fd", "exec", "file")
NOT_ASKED = {"dirty-limit": "needs KVM with a dirty ring"}
WAITS = {"return-path", "postcopy-ram", "tls", "x-colo"}    # for an answer that the sink does not give
UNSEEN = ("begun", "and not followed to its end")
MONITOR_S, FILE_S = 10, 5     # how long QEMU may take to answer, and to write 8 MiB
ENDED = ("completed", "failed", "cancelled")
# What only shows in company: a row's `unless`, and rows of three.
COMPANY = (
    ("multifd", "zero-copy-send"), ("multifd", "zero-copy-send", "zlib"), ("multifd", "zero-copy-send", "zstd"),
    ("multifd", "zero-copy-send", "tls"), ("postcopy-ram", "postcopy-preempt"), ("return-path", "switchover-ack"),
    ("return-path", "x-colo"), ("multifd", "mapped-ram"), ("multifd", "mapped-ram", "direct-io"),
    ("multifd", "mapped-ram", "zlib"), ("multifd", "mapped-ram", "tls"), ("multifd", "tls"), ("multifd", "zstd"),
    ("mapped-ram", "x-ignore-shared"), ("mapped-ram", "validate-uuid", "auto-converge", "release-ram", "dirty-bitmaps", "events"),
)


class Table:
    """The table, asked once per set; each question is one of the command's own."""

    def __init__(self):
        lines = [json.loads(line) for line in subprocess.run([GODWIT, "plan", "--table", "--json"], check=True, text=True,
                                                             stdout=subprocess.PIPE, timeout=60 * godwit.PATIENCE).stdout.splitlines()]
        self.abilities = set(lines[-1]["names"])

    def ask(self, operation, names):
        """(found, why), or None where nothing is refused."""
        p = subprocess.run([GODWIT, "plan", f"--for={operation}", f"--with={','.join(names)}", f"--qemu={VERSION}", "--json"],
                           stdout=subprocess.PIPE, text=True, timeout=60 * godwit.PATIENCE)
        answer = json.loads(p.stdout)
        assert p.returncode == (0 if answer["works"] else 3), (names, answer)
        return None if answer["works"] else (answer["found"], answer["why"])


class Sink:
    """Takes connections and throws away what they bring; with `hang_up` it takes none and ends those it has."""

    def __init__(self, path):
        self.unix, self.tcp = socket.socket(socket.AF_UNIX), socket.socket()
        self.unix.bind(path)
        self.tcp.bind(("127.0.0.1", 0))
        self.given, self.hang_up, self.over = [], False, False
        for listener in (self.unix, self.tcp):
            listener.listen(32)
        self.port = self.tcp.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        taken = []
        while not self.over:
            while self.given:
                taken.append(self.given.pop())
            if self.hang_up:
                for connection in taken:
                    connection.close()
                taken = []
            for s in select.select([self.unix, self.tcp, *taken], [], [], 0.01)[0]:
                if s in (self.unix, self.tcp):
                    taken.append(s.accept()[0])
                    continue
                try:
                    data = s.recv(1 << 20)
                except OSError:
                    data = b""
                if not data:
                    taken.remove(s)
                    s.close()
        for s in (self.unix, self.tcp, *taken):
            s.close()

    def close(self):
        self.over = True
        self.thread.join()


class Side:
    """A QEMU in one role, started again where it has to be. try_set() gives what QEMU did: None: all went well; or (stage,
    its words)."""

    def __init__(self, qemu, *args):
        self.qemu, self.args = qemu, args
        self.vm = None
        self.starts = 0
        self.last, self.lost = (), []       # what was asked last; after what QEMU hung or was gone

    def start(self):
        self.close()
        self.starts += 1
        self.vm = Vm(self.qemu, ["-machine", "pc", "-m", "8M", *self.args], console=False).__enter__()
        self.vm.qmp.timeout = MONITOR_S
        self.capabilities = [c["capability"] for c in self.vm.qmp.command("query-migrate-capabilities")]
        self.parameters = set(self.vm.qmp.command("query-migrate-parameters")) | {"tls-creds"}

    def close(self):
        if self.vm:
            self.vm.__exit__()
        self.vm = None

    def knows(self, ability):
        return ability in self.capabilities or (ability in PARAMETERS and PARAMETERS[ability][0] in self.parameters)

    def switch(self, names):
        """Off what is on, then parameters, then capabilities: the order that can be taken back (channels.md 5.3)."""
        command = self.vm.qmp.command
        caps = {c: c in names for c in self.capabilities}
        command("migrate-set-capabilities", capabilities=[{"capability": c, "state": False} for c in caps])
        wanted = {PARAMETERS[n][0]: PARAMETERS[n][1] for n in names if n in PARAMETERS}
        for parameter, _, off in PARAMETERS.values():
            if parameter in self.parameters:
                command("migrate-set-parameters", **{parameter: wanted.get(parameter, off)})
        command("migrate-set-capabilities", capabilities=[{"capability": c, "state": on} for c, on in caps.items()])

    def uri(self, transport):
        if transport == "fd":
            ours, theirs = socket.socketpair()
            self.vm.qmp.command("getfd", fds=[theirs.fileno()], fdname="pair")
            theirs.close()
            self.keep(ours)
        return self.uris()[transport]

    def switch_anew(self, names):
        """A QEMU whose last migration was cut off may hang or be gone (7.2); then another one is asked."""
        if not self.vm:
            self.start()
        try:
            self.switch(names)
        except (QmpTimeout, QmpClosed, OSError):
            self.lost.append("+".join(self.last))
            self.start()
            self.switch(names)

    def try_set(self, names, transport, watched=False):
        self.watched = watched
        try:
            self.switch_anew(names)
        except QmpError as e:
            return "capabilities", e.desc
        if not transport:
            return UNSEEN
        self.hangs_up, self.last = "tls" in names, (*names, transport)
        uri = self.uri(transport)
        try:
            self.begin(uri)
        except QmpError as e:
            self.refused()
            return "start", e.desc
        return self.follow(names, transport)


class Source(Side):
    def start(self):
        super().start()
        self.sink = Sink(self.vm.path("socket"))

    def close(self):
        if self.vm:
            self.sink.close()
        super().close()

    def uris(self):
        return {"unix": "unix:" + self.vm.path("socket"), "tcp": f"tcp:127.0.0.1:{self.sink.port}", "fd": "fd:pair",
                "exec": "exec:true" if self.hangs_up else "exec:cat >/dev/null", "file": "file:" + self.vm.path("file")}

    def keep(self, ours):
        self.sink.given.append(ours)

    def begin(self, uri):
        self.sink.hang_up = self.hangs_up   # QEMU's monitor stands still while it waits for a handshake
        self.vm.qmp.migrate(uri)

    def refused(self):
        pass

    def status(self):
        return self.vm.qmp.command("query-migrate").get("status")

    def wait_ended(self, seconds):
        """Told to go on once: QEMU shows the old state for a moment after that, and refuses to be told again later."""
        deadline = time.monotonic() + seconds
        told = False
        while time.monotonic() < deadline:
            status = self.status()
            if status in ENDED:
                return True
            if status == "pre-switchover" and not told:
                self.vm.qmp.command("migrate-continue", state=status)
                told = True
            time.sleep(0.005)
        return False

    def follow(self, names, transport):
        """To a file: until it ends, which it does without anybody's help. Elsewhere it is enough that it has begun, unless the
        table says that it fails."""
        result = UNSEEN
        if (transport == "file" or self.watched) and "x-colo" not in names:
            result = self.outcome()
        try:
            if "x-colo" in names or not self.calm_down(names):
                self.close()                # nothing but its end ends a COLO without a secondary
        except (QmpTimeout, QmpClosed, OSError):
            self.lost.append("+".join([*names, transport]))
            self.close()
        return result

    def outcome(self):
        if not self.wait_ended(FILE_S):
            return "late", f"does not end: {self.status()}"
        if self.status() == "failed":
            return "late", self.vm.qmp.command("query-migrate").get("error-desc", "")
        return None

    def calm_down(self, names):
        """Back to a running guest and no migration: at its end where it ends by itself, else cut off."""
        if not WAITS & set(names):
            self.wait_ended(FILE_S)
        self.sink.hang_up = True
        if self.status() not in ENDED:
            self.vm.qmp.command("migrate_cancel")
        if not self.wait_ended(MONITOR_S):
            return False
        if self.vm.qmp.command("query-status")["status"] != "running":
            self.vm.qmp.cont()
        return True


class Destination(Side):
    def uris(self):
        with open(self.vm.path("file"), "wb") as f:
            f.write(b"\0" * 16)
        return {"unix": "unix:" + self.vm.path("socket"), "tcp": "tcp:127.0.0.1:0", "fd": "fd:pair", "exec": "exec:cat",
                "file": "file:" + self.vm.path("file")}

    def keep(self, ours):
        self.ours = ours

    def begin(self, uri):
        self.vm.qmp.command("migrate-incoming", uri=uri, **({} if VERSION == "7.2" else {"exit_on_error": False}))

    def refused(self):
        self.close()        # 7.2 does not forget the transport of a refused one

    def follow(self, names, transport):
        self.close()        # there is one migrate-incoming in a life
        return UNSEEN


def compare(said, did):
    """What differs, or None. What QEMU does not notice ("never") cannot be seen here."""
    found = said[0] if said else None
    stage = did[0] if did else None
    if found in ("capabilities", "start"):
        return None if stage == found else f"the table: refused ({found}: {said[1]}); QEMU: {did or 'completes'}"
    if found == "late":
        return None if stage in ("late", "begun") else f"the table: fails late ({said[1]}); QEMU: {did or 'completes'}"
    return None if stage in (None, "begun") else f"the table: {said or 'works'}; QEMU: {did}"


def questions(names, transports, company):
    """Pairs among themselves, and each ability with each transport."""
    for pair in itertools.combinations(names, 2):
        if not {"zlib", "zstd"} <= set(pair):
            yield pair, None
    for some in [(), *((n,) for n in names), *(c for c in company if set(c) <= set(names))]:
        for transport in transports:
            yield some, transport


def ask(side, some, over, said):
    try:
        return compare(said, side.try_set(some, over, bool(said) and said[0] == "late"))
    except (OSError, RuntimeError, AssertionError, QmpClosed, QmpTimeout) as e:
        raise AssertionError(f"{some} over {over}: {e!r}; QEMU's status {side.vm and side.vm.process.poll()}") from e


def walk(table, side, operation, transports, pairs_over):
    side.start()
    names = sorted(n for n in table.abilities if side.knows(n) and n not in NOT_ASKED)
    unknown = [c for c in side.capabilities if c not in table.abilities]
    wrong, asked, crashes = [], 0, []
    for some, transport in questions(names, transports, COMPANY):
        for over in [transport] if transport else pairs_over:
            wanted = [*some, *([over] if over else [])]
            said = table.ask(operation, wanted)
            if said and said[0] == "crash":
                crashes.append("+".join(wanted))
                continue
            asked += 1
            difference = ask(side, some, over, said)
            if difference:          # is it the combination, or what an earlier one left behind?
                side.close()
                difference = ask(side, some, over, said)
            if difference:
                wrong.append(f"{'+'.join(wanted)}: {difference}")
    side.close()
    print(f"  {operation}: {asked} combinations asked of {side.starts} QEMUs; not tried, because known to crash: "
          f"{', '.join(crashes) or 'none'}; hung or gone when cut off: {', '.join(side.lost) or 'none'}; capabilities the table does not name: {', '.join(unknown) or 'none'}", flush=True)
    return [f"{operation}: {w}" for w in wrong]


def shared_memory(table, qemu):
    """The one row that depends on the guest. Only shared memory in a file with a name is left out by QEMU."""
    side = Source(qemu, "-object", "memory-backend-file,id=m0,size=8M,share=on,mem-path={dir}/ram", "-machine", "pc,memory-backend=m0")
    side.start()
    names = ("mapped-ram", "x-ignore-shared")
    difference = None
    if all(side.knows(n) for n in names):
        did = side.try_set(names, "file")
        difference = compare(table.ask("qemu-source", [*names, "shared-memory", "file"]), did)
    side.close()
    return [f"shared memory: {difference}"] if difference else []


def main():
    try:
        qemu = get_qemu(VERSION)
    except Unavailable as e:
        skip(str(e))
    table = Table()
    for ability, why in NOT_ASKED.items():
        print(f"  not asked: {ability}, which {why}")
    creds = ("-object", "tls-creds-anon,id=tls0,endpoint=")
    source = Source(qemu, creds[0], creds[1] + "client")
    destination = Destination(qemu, creds[0], creds[1] + "server", "-incoming", "defer")
    try:
        wrong = walk(table, source, "qemu-source", TRANSPORTS, ("unix", "file"))
        wrong += walk(table, destination, "qemu-destination", TRANSPORTS, (None,))
    finally:
        source.close()
        destination.close()
    wrong += shared_memory(table, qemu)
    if wrong:
        print(f"FAILED: {len(wrong)} differences between the table and QEMU {VERSION}:\n  " + "\n  ".join(wrong))
        sys.exit(1)
    print(f"ok: QEMU {VERSION} does what the table says")


main()
