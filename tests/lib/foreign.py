# SPDX-License-Identifier: MIT
"""A migration that the user of a guest begins, and that nobody else may touch."""
import time

import godwit
from relay import Fake

BYTES_PER_S = 64 << 10


def read_all(s):
    while s.recv(1 << 16):
        pass


class Foreign:
    """To somebody at `path` who keeps nothing; so slowly that no test sees its end."""

    def __init__(self, vm, path):
        self.vm, self.uri = vm, f"unix:{path}"
        self.fake = Fake(path, read_all)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.fake.__exit__()

    def status(self):
        return self.vm.qmp.command("query-migrate").get("status")

    def begin(self):
        self.vm.qmp.command("migrate-set-parameters", max_bandwidth=BYTES_PER_S)
        self.vm.qmp.migrate(self.uri)
        self.wait("active")

    def wait(self, status):
        deadline = time.monotonic() + 20 * godwit.patience()
        while (now := self.status()) != status:
            assert now in ("setup", "active", "cancelling") and time.monotonic() < deadline, f"{now}, not {status}"
            time.sleep(0.01)

    def goes_on(self):
        """As it was begun."""
        assert self.status() == "active", self.vm.qmp.command("query-migrate")
        rate = self.vm.qmp.command("query-migrate-parameters")["max-bandwidth"]
        assert rate == BYTES_PER_S, f"its bandwidth has become {rate}"

    def cancel(self):
        self.vm.qmp.command("migrate_cancel")
        self.wait("cancelled")
