# SPDX-License-Identifier: MIT
"""Mem guests: `godwit guest run` in the background, and what it is asked. Each is a guest whose memory proves itself."""
import json
import os

import godwit


class MemGuest(godwit.Run):
    """with MemGuest(folder, name, "--memory=32M", ...) as g: it runs; or, with incoming=URI, it waits there."""

    def __init__(self, folder, name, *options, incoming=None):
        self.control = os.path.join(folder, name + ".control")
        wait = [f"--incoming={incoming}"] if incoming else []
        super().__init__("guest", "run", f"--control={self.control}", "--json", *wait, *options)
        self.wait_stdout('"event":"listening"' if incoming else '"event":"running"')
        self.uri = next((e["uri"] for e in map(json.loads, self.stdout.splitlines()) if e["event"] == "listening"), None)

    def send(self, uri, *options, timeout=60):
        return godwit.run("guest", "send", self.control, uri, "--json", *options, timeout=timeout)

    def check(self, *options):
        """The Result; status 6: not every byte is right."""
        return godwit.run("guest", "check", self.control, "--json", *options)

    def right(self, *options):
        return json.loads(self.check(*options).ok().stdout)

    def stop(self):
        godwit.run("guest", "stop", self.control).ok()
        return self.wait().ok()
