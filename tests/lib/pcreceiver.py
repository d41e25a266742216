# SPDX-License-Identifier: MIT
"""godwit receive, for the post-copy sources of pcsource.py."""
import os
import re
import tempfile

import godwit
import images
import refstream
from pcsource import *

NEVER = "--connect-timeout=0.5"
LIMIT = 65536


class Receiver:
    """godwit receive in a folder of its own, as often as needed."""

    def __init__(self, folder):
        self.dir = tempfile.mkdtemp(dir=folder)
        self.image = os.path.join(self.dir, "image")
        self.runs = 0

    def start(self, *options):
        self.runs += 1
        self.path = os.path.join(self.dir, f"s{self.runs}")
        run = godwit.Run("receive", f"unix:{self.path}", self.image, "--json", "-q", f"--memory-limit={LIMIT}", "--idle-timeout=10", *options)
        run.wait_stdout("listening")
        return run

    def left(self):
        return sorted(n for n in os.listdir(self.dir) if not re.fullmatch(r"s\d+", n))

    def has_it(self, early=()):
        """The whole guest, as an ordinary image."""
        assert self.left() == ["image"], self.left()
        godwit.run("verify", self.image).ok()
        for block in PAGES:
            images.same_bytes(block, images.raw_ram(self.image, self.image + ".raw", block), ram(block))
        os.unlink(self.image + ".raw")
        s = refstream.decode_file(self.image)
        assert [d[0] for d in s.devices] == [*early, "device7", "device8"] and not s.commands, (s.devices, s.commands)


def paused_with(folder, **keywords):
    r = Receiver(folder)
    with r.start(NEVER) as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have, **keywords)
        s.__exit__()
        assert g.wait().status == godwit.RECOVERABLE
    return r, have


def finish_later(r, have, early=()):
    """Another process goes on with what there is."""
    with r.start("--resume") as g, Link(r.path) as s:
        s.recover(have)
        s.pages(have)
        s.finish()
        s.__exit__()
        assert g.wait().ok().event("done")["devices"] == 2 + len(early)
    r.has_it(early)
