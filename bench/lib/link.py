# SPDX-License-Identifier: MIT
"""How a guest travels in a benchmark: over one channel or several, compressed or not; what each side has to be told."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    channels: int = 0           # of multifd; 0: none, everything over the main channel
    compress: str = "none"      # "zlib" or "zstd", with their level 1

    def title(self):
        if not self.channels:
            return ""
        return f", {self.channels} channels" + (f", {self.compress}" if self.compress != "none" else "")

    def capabilities(self):
        """Of a QEMU, at either end."""
        return ["multifd"] if self.channels else []

    def parameters(self):
        if not self.channels:
            return {}
        level = {} if self.compress == "none" else {f"multifd_{self.compress}_level": 1}
        return {"multifd_channels": self.channels, "multifd_compression": self.compress, **level}

    def receive_options(self):
        """Of godwit receive; compression it hears from the channels."""
        return [f"--channels={self.channels}"] if self.channels else []

    def send_options(self):
        """Of godwit send and save."""
        if not self.channels:
            return []
        level = [] if self.compress == "none" else ["--level=1"]
        return [f"--channels={self.channels}", f"--compress={self.compress}", *level]


PLAIN = Link()
