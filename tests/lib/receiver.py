# SPDX-License-Identifier: MIT
"""godwit receive in a folder of its own, for peers made by hand (mfdsource.py): it fails well, or keeps the right RAM."""
import os
import tempfile

import godwit
import images
import mfdsource

IDLE_S = round(2 * godwit.PATIENCE)    # a test that sends something more often must not be late itself
SOON_S = 20
PATIENT_S = round(10 * godwit.PATIENCE)     # where the limit is not what is tried, and the machine may be slow


class Receiver:
    def __init__(self, folder, name, *options, idle=PATIENT_S):
        self.dir = tempfile.mkdtemp(dir=folder)
        self.path, self.image = os.path.join(self.dir, "s"), os.path.join(self.dir, "image")
        self.run = godwit.Run("receive", f"unix:{self.path}", self.image, f"--idle-timeout={idle}", "--json", "-q", *options)
        self.name = name

    def __enter__(self):
        self.run.wait_stdout("listening")
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, OSError):      # it closed: what it said is worth more
            error = AssertionError(f"{self.name}: {error}: {self.run.stderr}{self.run.stdout}")
            self.run.__exit__()
            raise error from None
        self.run.__exit__()

    def refuses(self, *patterns, soon=SOON_S):
        """Soon, with one sentence and without an image."""
        r = self.run.wait()
        try:
            r.fails(godwit.FAILED, *patterns)
            assert r.seconds < soon * godwit.PATIENCE, r
            assert os.listdir(self.dir) == [], os.listdir(self.dir)
        except AssertionError as e:
            raise AssertionError(f"{self.name}: {e}") from None
        return r

    def keeps(self, want, source):
        """The source hears of it, and goes; then the image has this RAM."""
        try:
            assert source.answers().endswith(mfdsource.SHUT_OK), self.run.wait()
            source.main.close()
            r = self.run.wait().ok()
            images.same_bytes("ram", images.raw_ram(self.image, os.path.join(self.dir, "raw"), mfdsource.BLOCK), want)
        except AssertionError as e:
            raise AssertionError(f"{self.name}: {e}") from None
        return r
