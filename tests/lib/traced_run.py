# SPDX-License-Identifier: MIT
"""A godwit that can be ended right behind something it did."""
import fcntl
import os
import re
import select
import time

import godwit

F_SETPIPE_SZ = 1031
LONGEST_S = 0.4     # where the moment itself does not come


class Stepped(godwit.Run):
    """godwit with a trace that goes into a pipe of one line: it stands still until what it did last was read."""

    def __init__(self, *args):
        self.text = ""
        self.pipe, stderr = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
        fcntl.fcntl(stderr, F_SETPIPE_SZ, 4096)
        super().__init__(*args, stderr=stderr, env={**os.environ, "GODWIT_TRACE": "1"})
        os.close(stderr)

    def __exit__(self, *_):
        super().__exit__()
        os.close(self.pipe)

    @property
    def stderr(self):
        return self.text

    def kill_at(self, moment, times=1, later=0):
        """Kill it `later` seconds behind the line of its trace that comes for the times-th time. `moment`: has a pattern, or None; and
        slow: whether to give up soon. True: killed. False: it came to its end before."""
        deadline = time.monotonic() + (LONGEST_S if moment.pattern and moment.slow else later if moment.slow else 60 * godwit.PATIENCE)
        while (left := deadline - time.monotonic()) > 0 and select.select([self.pipe], [], [], left)[0]:
            said = os.read(self.pipe, 65536).decode("utf-8", "replace")
            if not said:
                return False
            self.text += said
            if moment.pattern and re.search(moment.pattern, said):
                times -= 1
                if times == 0:
                    deadline = time.monotonic() + later
        self.kill()
        return True

    def reach(self, pattern, timeout=60):
        """Up to this line of its trace: it comes no further than to the second line behind it, until it is waited for."""
        deadline = time.monotonic() + timeout * godwit.PATIENCE
        while not re.search(pattern, self.text):
            assert select.select([self.pipe], [], [], max(0, deadline - time.monotonic()))[0], f"{pattern} did not come: {self.text}"
            said = os.read(self.pipe, 65536).decode("utf-8", "replace")
            assert said, f"ended before {pattern}: {self.text}"
            self.text += said

    def wait(self, timeout=60):
        """Also reads what it says meanwhile."""
        deadline = time.monotonic() + timeout * godwit.PATIENCE
        while select.select([self.pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            said = os.read(self.pipe, 65536).decode("utf-8", "replace")
            if not said:
                break
            self.text += said
        return super().wait(timeout)
