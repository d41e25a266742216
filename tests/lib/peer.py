# SPDX-License-Identifier: MIT
"""The receiving end of a migration, as far as a test needs one: it keeps every byte of the main channel and of the
multifd channels, answers on the return path if one is opened, and says all is well at the end. Not a QEMU: nothing is
loaded or checked.

A Peer listens on a unix socket from its creation; its threads, one per connection, end when the source closes.
"""
import re
import socket
import threading

import godwit
from refstream import is_whole

# OPEN_RETURN_PATH and the PING behind it; both come right after the configuration.
OPENED = re.compile(rb"\x08\x00\x01\x00\x00\x08\x00\x02\x00\x04(.{4})", re.S)
PONG, SHUT_0 = b"\0\x02\0\x04", b"\0\x01\0\x04\0\0\0\0"
HEAD = 4096


MAIN_MAGIC, MULTIFD_MAGIC = b"QEVM", b"\x11\x22\x33\x44"
CHANNEL_ID = 24     # in the hello of a multifd channel


class Peer:
    def __init__(self, path, channels=0, answers_early=False):
        """answers_early: it says that all is well before it has all."""
        self.answers_early = answers_early
        self.data = bytearray()                 # of the main channel
        self.channels = [None] * channels       # bytes of each multifd channel, hello included, by its id
        self.return_path = False
        self.error = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1 + channels)
        self.uri = f"unix:{path}"
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def finish(self, timeout=60.0):
        """All bytes of the main channel, after the source closed all of its connections."""
        self.thread.join(timeout * godwit.PATIENCE)
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
        """They come in any order; the first four bytes of each say what it is."""
        threads = []
        try:
            for _ in range(1 + len(self.channels)):
                sock = self.listener.accept()[0]
                threads.append(threading.Thread(target=self._read, args=(sock,), daemon=True))
                threads[-1].start()
        except OSError as e:
            self.error = e
        for t in threads:
            t.join()

    def _read(self, sock):
        try:
            with sock:
                magic = sock.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)
                if magic == MULTIFD_MAGIC and self.channels:
                    self._keep_channel(sock)
                elif magic == MAIN_MAGIC and not self.data:
                    self._receive(sock)
                else:
                    raise ValueError(f"a connection that begins with {magic!r}")
        except (OSError, ValueError) as e:
            self.error = self.error or e

    def _keep_channel(self, sock):
        kept = bytearray()
        while chunk := sock.recv(1 << 20):
            kept += chunk
        number = kept[CHANNEL_ID] if len(kept) > CHANNEL_ID else -1
        if not 0 <= number < len(self.channels) or self.channels[number] is not None:
            raise ValueError(f"channel {number} of {len(self.channels)}, or for the second time")
        self.channels[number] = bytes(kept)

    def _receive(self, sock):
        ended = False
        while chunk := sock.recv(1 << 20):
            self.data += chunk
            if not self.return_path and len(self.data) < HEAD + len(chunk):
                opened = OPENED.search(self.data, 0, HEAD)
                if opened:
                    self.return_path = True
                    ended = self.answers_early
                    sock.sendall(PONG + opened[1] + (SHUT_0 if ended else b""))
            if self.return_path and not ended and is_whole(self.data):
                ended = True
                sock.sendall(SHUT_0)
