# SPDX-License-Identifier: MIT
"""A QMP client for tests: one socket, one command at a time, events kept in order, every wait with a limit.

Not the client of the godwit command (that is src/qmp). One thread uses one Qmp.
"""
import json
import re
import socket
import time


class QmpError(Exception):
    """QEMU answered a command with an error."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('desc')}")
        self.error_class = error.get("class")
        self.desc = error.get("desc")


class QmpTimeout(Exception):
    """Nothing came in time."""


class QmpClosed(Exception):
    """QEMU closed the monitor."""


def line(name, arguments):
    message = {"execute": name}
    if arguments:
        message["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
    return json.dumps(message).encode() + b"\n"


class Qmp:
    def __init__(self, sock, timeout=30.0):
        """Take over a connected stream socket and negotiate."""
        self.sock = sock
        self.timeout = timeout
        self.events = []        # received and not yet taken by wait_event
        self.owed = 0           # answers that were given up; they come first
        self.buffer = b""
        self.greeting = self._await_greeting(time.monotonic() + timeout)
        self.command("qmp_capabilities")

    @classmethod
    def connect(cls, path, timeout=30.0, alive=lambda: True):
        """Connect to a unix socket that may not be there yet; give up when alive() says so."""
        deadline = time.monotonic() + timeout
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(path)
                return cls(sock, timeout)
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
            if not alive():
                raise QmpClosed(f"QEMU ended before {path} was there")
            if time.monotonic() > deadline:
                raise QmpTimeout(f"no QMP at {path}")
            time.sleep(0.02)

    def close(self):
        self.sock.close()

    def command(self, name, fds=(), timeout=None, **arguments):
        """Run a command and return its result. Keywords become arguments, '_' becomes '-'; fds are passed along."""
        data = line(name, arguments)
        if fds:
            socket.send_fds(self.sock, [data], list(fds))
        else:
            self.sock.sendall(data)
        return self._answer(name, timeout)

    def _await_greeting(self, deadline):
        """An event that happens just when a monitor connects may come before it (seen with 10.0)."""
        while "event" in (said := self._read(deadline)):
            self.events.append(said)
        return said["QMP"]

    def _answer(self, name, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            try:
                answer = self._read(deadline)
            except QmpTimeout:
                self.owed += 1
                raise
            if "event" in answer:
                self.events.append(answer)
            elif self.owed:
                self.owed -= 1
            elif "error" in answer:
                raise QmpError(name, answer["error"])
            elif "return" in answer:
                return answer["return"]

    def migrate(self, uri):
        """A "migrate" that meets what 7.2 has not cleaned up yet leaves it confused for good."""
        return self._once_free(lambda: self.command("migrate", uri=uri))

    def migrate_and_switch(self, uri):
        """To post-copy, hardly behind the first page: QEMU has both commands at once, however busy this machine is."""
        def both():
            self.sock.sendall(line("migrate", {"uri": uri}) + line("migrate-start-postcopy", {}))
            try:
                self._answer("migrate")
            except QmpError:
                self.owed += 1
                raise
            self._answer("migrate-start-postcopy")
        self._once_free(both)

    def _once_free(self, begin):
        deadline = time.monotonic() + self.timeout
        while any(y["type"] == "migration" for y in self.command("query-yank")) and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._behind_the_end(begin, "duplicate yank instance|migration process in progress")

    def cont(self):
        return self._behind_the_end(lambda: self.command("cont"), "not finalized yet")

    def _behind_the_end(self, begin, not_over):
        """QEMU says "failed" (7.2) or "completed" (11.1) a moment before it is done with a migration; then it is asked again."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return begin()
            except QmpError as e:
                if not re.search(not_over, e.desc) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def wait_event(self, name, timeout=None, match=lambda data: True):
        """Take the oldest event of this name whose data matches; earlier ones of other names stay."""
        deadline = time.monotonic() + (timeout or self.timeout)
        looked_at = 0
        while True:
            while looked_at < len(self.events):
                event = self.events[looked_at]
                if event["event"] == name and match(event.get("data", {})):
                    return self.events.pop(looked_at)
                looked_at += 1
            message = self._read(deadline)
            if "event" in message:
                self.events.append(message)

    def human(self, line):
        return self.command("human-monitor-command", command_line=line)

    def _read(self, deadline):
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpTimeout("QMP: no answer in time")
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                raise QmpTimeout("QMP: no answer in time") from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise QmpClosed("QEMU closed its QMP socket")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)


class OpenMonitor:
    """A monitor that was negotiated, with oob, while QEMU was free to do so. A vCPU that waits for a page can hold QEMU's lock;
    no new monitor is answered then, nor any command of one that is open, but for those out of band."""

    def __init__(self, path, timeout=120):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.file = self.sock.makefile("r")
        self.file.readline()
        self.call({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})

    def call(self, command):
        self.sock.sendall(json.dumps(command).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise QmpError(str(command), answer["error"])
            if "event" not in answer:
                return

    def recover(self, uri):
        self.call({"exec-oob": "migrate-recover", "arguments": {"uri": uri}, "id": 1})

    def recover_once_paused(self, uri, timeout=60):
        """However long it takes until the destination has noticed that its link is gone."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.recover(uri)
            except QmpError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def close(self):
        self.file.close()
        self.sock.close()
