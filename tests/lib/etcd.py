# SPDX-License-Identifier: MIT
"""A real etcd of several members on this host, whose members can be killed, frozen and started again; and a host of another name."""
import base64
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import godwit
from vm import Unavailable

OTHER_BOOT = "00000000-0000-4000-8000-0000000000%02x"


class Disk:
    """A file system in a file, which can be frozen: whoever writes to it stands still. In a mount namespace of this test's own; Unavailable where that is not allowed."""

    def __init__(self, path, size=512 << 20):
        self.path, self.freezer = path, None
        os.makedirs(path)
        with open(path + ".img", "wb") as f:
            f.truncate(size)
        try:
            for command in (["mkfs.ext4", "-q", "-F", path + ".img"], ["mount", "-o", "loop", path + ".img", path]):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except (OSError, subprocess.CalledProcessError) as e:
            raise Unavailable(f"a file system that can be frozen is not possible: {e}") from None

    def freeze(self, seconds):
        """For so long, also if this test is killed: nothing else would ever free who waits for it."""
        self.freezer = subprocess.Popen(["sh", "-c", 'fsfreeze -f "$0" && sleep "$1" && fsfreeze -u "$0"', self.path, str(seconds)], start_new_session=True)

    def thaw(self):
        if self.freezer:
            assert self.freezer.wait() == 0, "the file system was not frozen"
            self.freezer = None

    def close(self):
        self.thaw()
        subprocess.run(["umount", "-l", self.path], check=False)


def free_ports(n):
    """Of those that the kernel gives nobody by itself: nobody else takes one before a member does."""
    ports = []
    while len(ports) < n:
        with socket.socket() as s, contextlib.suppress(OSError):
            port = random.randrange(12000, 32000)
            s.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


ELECTION_MS = int(500 * min(3, godwit.patience()))      # on a busy machine members that are only late would depose each other all the time


class Etcd:
    """Its members are numbered from 0. Election within half a second or so."""

    def __init__(self, folder, members=3, certs=None, disks=False):
        """certs: those of tests/support/certs.h; then it speaks TLS and asks for a client's. disks: each member's can be frozen."""
        if not shutil.which("etcd"):
            raise Unavailable("there is no etcd; scripts/setup test installs it")
        self.certs, self.tls = certs, None
        if certs:
            self.tls = ssl.create_default_context(cafile=f"{certs}/good/ca-cert.pem")
            self.tls.verify_flags &= ~ssl.VERIFY_X509_STRICT    # from Python 3.13 on: it wants key identifiers, which these do not have
            self.tls.load_cert_chain(f"{certs}/good/client-cert.pem", f"{certs}/good/client-key.pem")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls))
        self.scheme = "https" if certs else "http"
        self.disks = [Disk(os.path.join(folder, f"etcd-{i}")) for i in range(members)] if disks else []
        self.folder, self.members = folder, members
        self.process = [None] * members
        self.start_all()

    def start_all(self):
        ports = free_ports(2 * self.members)
        self.clients, self.peers = ports[:self.members], ports[self.members:]
        for i in range(self.members):
            self.start(i)

    def start(self, i):
        cluster = ",".join(f"m{n}=http://127.0.0.1:{p}" for n, p in enumerate(self.peers))
        client, peer = f"{self.scheme}://127.0.0.1:{self.clients[i]}", f"http://127.0.0.1:{self.peers[i]}"
        server = f"{self.certs}/any-purpose"    # its gateway shows that one to itself as a client's
        tls = ["--cert-file", f"{server}/server-cert.pem", "--key-file", f"{server}/server-key.pem", "--client-cert-auth",
               "--trusted-ca-file", f"{server}/ca-cert.pem"] if self.certs else []
        with open(os.path.join(self.folder, f"etcd-{i}.log"), "ab") as log:
            self.process[i] = subprocess.Popen(
                ["etcd", "--name", f"m{i}", "--data-dir", os.path.join(self.folder, f"etcd-{i}", "data"), *tls, "--listen-client-urls", client,
                 "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
                 "--heartbeat-interval", str(ELECTION_MS // 10), "--election-timeout", str(ELECTION_MS), "--unsafe-no-fsync"],
                stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine})

    def __enter__(self):
        deadline = time.monotonic() + 60 * godwit.patience()
        while self.get("godwit-test-ready") is None:
            assert time.monotonic() < deadline, f"etcd does not answer: {self.last_words()}"
            if any("address already in use" in words for words in self.last_words()):     # somebody was faster
                self.end_all()
                self.start_all()
            time.sleep(0.1)
        return self

    def last_words(self):
        """Of the members that have ended."""
        words = []
        for i in range(self.members):
            if self.process[i].poll() is not None:
                with open(os.path.join(self.folder, f"etcd-{i}.log"), encoding="utf-8", errors="replace") as f:
                    words.append(f.read()[-600:])
        return words

    def end_all(self):
        for i, p in enumerate(self.process):
            if p.poll() is None:
                p.kill()
                p.wait()
            shutil.rmtree(os.path.join(self.folder, f"etcd-{i}", "data"), ignore_errors=True)

    def __exit__(self, *_):
        for disk in self.disks:
            disk.thaw()
        self.end_all()
        for disk in self.disks:
            disk.close()

    def url(self, key, only=None):
        ports = self.clients if only is None else [self.clients[i] for i in only]
        members = ",".join(f"127.0.0.1:{p}" for p in ports)
        return f"etcds://{members}/{key}?{self.options('good')}" if self.certs else f"etcd://{members}/{key}"

    def options(self, folder):
        files = {"cacert": "ca-cert", "cert": "client-cert", "key": "client-key"}
        return "&".join(f"{option}={self.certs}/{folder}/{name}.pem" for option, name in files.items())

    def kill(self, i):
        self.process[i].kill()
        self.process[i].wait()

    def freeze(self, i):
        self.process[i].send_signal(signal.SIGSTOP)

    def thaw(self, i):
        self.process[i].send_signal(signal.SIGCONT)

    def ask(self, i, path, question, timeout=1):
        """None: it does not answer."""
        request = urllib.request.Request(f"{self.scheme}://127.0.0.1:{self.clients[i]}/v3/{path}", json.dumps(question).encode())
        try:
            with self.opener.open(request, timeout=timeout) as answer:
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

    def story(self):
        """Who is there, and whom it takes for the leader."""
        told = []
        for i, process in enumerate(self.process):
            status = self.ask(i, "maintenance/status", {}) or {}
            told.append(f"member {i}: {'gone' if process.poll() is not None else status.get('leader', 'silent')}, term {status.get('raftTerm', '?')}")
        return "; ".join(told)

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
