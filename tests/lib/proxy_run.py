# SPDX-License-Identifier: MIT
"""godwit proxy between two ends, and what it said: its --json lines, and laws that hold for whatever passed.

with Proxy(connect_uri) as p: p.uri is where the source has to go.
"""
import collections
import json
import os
import shutil
import signal
import tempfile

import godwit

# What happens to a connection is no message in it.
HAPPENINGS = {"CONNECTED", "CLOSED", "CUT", "BROKEN", "REFUSED", "NOT_SHOWN"}


class Proxy:
    def __init__(self, connect, *options, listen=None):
        self.dir = tempfile.mkdtemp(prefix="godwit-proxy.")
        self.connect, self.options = connect, options
        self.uri = listen or f"unix:{self.dir}/in"
        self.run = self.result = None

    def __enter__(self):
        self.run = godwit.Run("proxy", self.uri, self.connect, "--json", *self.options)
        self.run.__enter__()
        try:
            self.uri = json.loads(self.run.wait_stdout(r'^({"event":"listening".*})\n')[1])["uri"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.run.__exit__()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def wait(self, timeout=60):
        """It ends by itself."""
        self.result = self.run.wait(timeout)
        return self

    def stop(self):
        """It was told to go on (--keep), and is told to end."""
        self.run.kill(signal.SIGTERM)
        return self.wait()

    def wait_said(self, pattern, timeout=60):
        return self.run.wait_stdout(pattern, timeout)

    # --- what it said; while it runs only whole lines count ---

    @property
    def events(self):
        text = self.run.stdout if self.result is None else self.result.stdout
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def messages(self, name=None, **wanted):
        """Of this name, with these values: messages("PING", channel="main", token=1)."""
        return [e for e in self.events if e["event"] == "message" and name in (None, e["message"])
                and all(e.get(k) == v for k, v in wanted.items())]

    def said(self, name, **wanted):
        found = self.messages(name, **wanted)
        assert found, f"no {name} {wanted} in\n{self}"
        return found[0]

    def channels(self):
        """{connection: what it came to}"""
        return {e["connection"]: e for e in self.events if e["event"] == "channel"}

    def channel(self, name):
        found = [c for c in self.channels().values() if c["channel"] == name]
        assert len(found) == 1, f"{len(found)} channels {name}:\n{self}"
        return found[0]

    @property
    def outcome(self):
        return self.result.event("ended")["outcome"]

    def __str__(self):
        lines = [f"{e['connection']} {e['channel']} {e['direction']} {e['offset']} {e['message']}: {e['text']}" for e in self.messages()]
        return "\n".join(lines[-200:]) + f"\n{self.run.stderr}"

    # --- laws ---

    def is_explained(self, but=()):
        """Everything was understood, nothing was lost, and what was counted is what was said."""
        assert self.result.event("ended")["missed"] == 0
        for e in self.messages():
            assert e["message"] not in {"UNINTERPRETED", "INCOMPLETE"} - set(but), f"{e}\n{self}"
        by_direction = collections.defaultdict(list)
        for e in self.messages():
            if e["direction"] and e["message"] not in HAPPENINGS:
                by_direction[e["connection"], e["direction"]].append(e)
        for (connection, direction), said in by_direction.items():
            self._in_a_row(self.channels()[connection], direction, said)

    def _in_a_row(self, channel, direction, said):
        at = 0
        for e in said:
            if e["message"] == "INCOMPLETE":    # what was announced before did not come
                at = min(at, e["offset"])
            gap = e["offset"] - at
            assert gap in (0, 8), f"{gap} bytes unexplained before {e}"      # 8: EOS, which only --verbose shows
            at = e["offset"] + e["bytes"]
        assert channel[direction + "_bytes"] - at in (0, 8), f"the last bytes of {channel} were not explained, {at} were"
        assert channel["pages"] == self._sum(said, "pages") or direction == "return", channel
        assert channel["zero_pages"] == self._sum(said, "zero_pages") or direction == "return", channel

    @staticmethod
    def _sum(said, field):
        return sum(e[field] for e in said if e["message"] in ("PAGES", "PACKET", "SYNC"))


def tapped(folder, connection, channel, direction):
    with open(os.path.join(folder, f"{connection}-{channel}-{direction}"), "rb") as f:
        return f.read()
