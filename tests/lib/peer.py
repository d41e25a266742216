# SPDX-License-Identifier: MIT
"""The receiving end of a migration, as far as a test needs one: it keeps every byte of the main channel, answers on
the return path if one is opened, and says all is well at the end. Not a QEMU: nothing is loaded or checked.

A Peer listens on a unix socket from its creation; its thread ends when the source closes.
"""
import re
import socket
import threading

from refstream import is_whole

# OPEN_RETURN_PATH and the PING behind it; both come right after the configuration.
OPENED = re.compile(rb"\x08\x00\x01\x00\x00\x08\x00\x02\x00\x04(.{4})", re.S)
PONG, SHUT_0 = b"\0\x02\0\x04", b"\0\x01\0\x04\0\0\0\0"
HEAD = 4096


class Peer:
    def __init__(self, path):
        self.data = bytearray()
        self.return_path = False
        self.error = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.uri = f"unix:{path}"
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def finish(self, timeout=60.0):
        """All bytes, after the source closed."""
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise TimeoutError("the source does not close its connection")
        if self.error:
            raise self.error
        return bytes(self.data)

    def close(self):
        """Give up waiting for a source that never came."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def _run(self):
        try:
            with self.listener.accept()[0] as sock:
                self._receive(sock)
        except OSError as e:
            self.error = e

    def _receive(self, sock):
        ended = False
        while chunk := sock.recv(1 << 20):
            self.data += chunk
            if not self.return_path and len(self.data) < HEAD + len(chunk):
                opened = OPENED.search(self.data, 0, HEAD)
                if opened:
                    self.return_path = True
                    sock.sendall(PONG + opened[1])
            if self.return_path and not ended and is_whole(self.data):
                ended = True
                sock.sendall(SHUT_0)
