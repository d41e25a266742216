# SPDX-License-Identifier: MIT
"""What stands where a monitor is expected: something that is none, or that passes on what is said to a real one, up to a point."""
import contextlib
import os
import socket
import threading


class Fake:
    """Something that listens like a monitor and answers each connection with `talk(socket)`."""

    def __init__(self, path, talk):
        """path None: on a port of this host."""
        self.path, self.talk = path, talk
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen(4)
        self.address = f"unix:{path}" if path else f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.answer, args=(s,), daemon=True).start()

    def answer(self, s):
        with s:
            try:
                self.talk(s)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.path:
            os.unlink(self.path)


class Relay:
    """Between godwit and a real monitor: passes lines and descriptors on, but breaks off when it sees a command first, or behind an
    answer, or when it is told to. counted: how often the word `count` was passed on. `mute_at`: commands that come in this order;
    from the last of them on QEMU's answers are held back until release()."""

    def __init__(self, path, real, at=None, behind=None, count=None, mute_at=()):
        self.real, self.at, self.behind, self.mute_at = real, at, behind, list(mute_at)
        self.count, self.counted = count, 0
        self.answers = threading.Event()
        self.answers.set()
        self.passed = []        # the commands' bytes, once it is mute
        self.clients = []
        self.fake = Fake(path, self.talk)
        self.address = self.fake.address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        self.fake.__exit__()

    def release(self):
        self.answers.set()

    def break_off(self):
        for client in self.clients:
            with contextlib.suppress(OSError):      # it may have gone by itself
                client.shutdown(socket.SHUT_RDWR)

    def talk(self, client):
        self.clients.append(client)
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self.real)
            threading.Thread(target=self.pass_back, args=(server, client), daemon=True).start()
            try:
                self.pass_on(client, server)
            finally:
                server.shutdown(socket.SHUT_RDWR)   # also for the other thread

    def pass_on(self, client, server):
        while True:
            data, fds, _, _ = socket.recv_fds(client, 65536, 4)
            if self.mute_at and self.mute_at[0] in data and not self.mute_at[1:]:
                self.answers.clear()
            if self.mute_at and self.mute_at[0] in data:
                self.mute_at.pop(0)
            if not self.answers.is_set():
                self.passed.append(data)
            if self.at and self.at in data:
                self.at = None      # once
                data = b""
            if not data:
                client.shutdown(socket.SHUT_RDWR)
                return
            if self.count:
                self.counted += data.count(self.count)
            socket.send_fds(server, [data], fds)
            for fd in fds:
                os.close(fd)

    def pass_back(self, server, client):
        try:
            while data := server.recv(65536):
                self.answers.wait()
                client.sendall(data)
                if self.behind and self.behind in data:
                    break
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
