# SPDX-License-Identifier: MIT
"""A real etcd of several members on this host, whose members can be killed, frozen and started again; and a host of another name."""
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import godwit
from vm import Unavailable

OTHER_BOOT = "00000000-0000-4000-8000-0000000000%02x"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Etcd:
    """Its members are numbered from 0. Election within half a second or so."""

    def __init__(self, folder, members=3):
        if not shutil.which("etcd"):
            raise Unavailable("there is no etcd; scripts/setup test installs it")
        self.folder, self.members = folder, members
        ports = free_ports(2 * members)
        self.clients, self.peers = ports[:members], ports[members:]
        self.process = [None] * members
        for i in range(members):
            self.start(i)

    def start(self, i):
        cluster = ",".join(f"m{n}=http://127.0.0.1:{p}" for n, p in enumerate(self.peers))
        client, peer = f"http://127.0.0.1:{self.clients[i]}", f"http://127.0.0.1:{self.peers[i]}"
        with open(os.path.join(self.folder, f"etcd-{i}.log"), "ab") as log:
            self.process[i] = subprocess.Popen(
                ["etcd", "--name", f"m{i}", "--data-dir", os.path.join(self.folder, f"etcd-{i}"), "--listen-client-urls", client,
                 "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
                 "--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync"],
                stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine})

    def __enter__(self):
        deadline = time.monotonic() + 60 * godwit.patience()
        while self.get("godwit-test-ready") is None:
            assert time.monotonic() < deadline, "etcd does not answer"
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        for p in self.process:
            if p.poll() is None:
                p.kill()
                p.wait()

    def url(self, key, only=None):
        ports = self.clients if only is None else [self.clients[i] for i in only]
        return f"etcd://{','.join(f'127.0.0.1:{p}' for p in ports)}/{key}"

    def kill(self, i):
        self.process[i].kill()
        self.process[i].wait()

    def freeze(self, i):
        self.process[i].send_signal(signal.SIGSTOP)

    def thaw(self, i):
        self.process[i].send_signal(signal.SIGCONT)

    def ask(self, i, path, question, timeout=1):
        """None: it does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.clients[i]}/v3/{path}", json.dumps(question).encode())
        try:
            with OPENER.open(request, timeout=timeout) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def get(self, key):
        """The value, "" for none; None: no member answers."""
        for i in range(self.members):
            if self.process[i].poll() is None:
                answer = self.ask(i, "kv/range", {"key": base64.b64encode(key.encode()).decode()})
                if answer is not None:
                    return base64.b64decode(answer["kvs"][0]["value"]).decode() if "kvs" in answer else ""
        return None

    def leader(self):
        deadline = time.monotonic() + 30 * godwit.patience()
        while time.monotonic() < deadline:
            for i in range(self.members):
                status = self.ask(i, "maintenance/status", {}) if self.process[i].poll() is None else None
                if status and status.get("leader") == status["header"]["member_id"]:
                    return i
            time.sleep(0.1)
        raise AssertionError("etcd has no leader")


def record(text):
    """OWNER:GENERATION:BEAT+TERM as a tuple; of "" None."""
    if not text:
        return None
    owner, generation, rest = text.rsplit(":", 2)
    beat, term = rest.split("+")
    return owner, int(generation), int(beat), term


def another_host(folder, number=1):
    """What a command begins with to be on another host, as far as its boot id tells; Unavailable where that takes rights we have not."""
    path = os.path.join(folder, f"boot-{number}")
    with open(path, "w", encoding="ascii") as f:
        f.write(OTHER_BOOT % number + "\n")
    prefix = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"', path]
    if subprocess.run([*prefix, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        raise Unavailable("a private mount is not possible")
    return prefix
