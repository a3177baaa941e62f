"""A line on the terminal with the share done and the time left; in a file, a line now and then."""

import sys
import time


def duration(seconds):
    seconds = int(seconds + 0.5)
    return f"{seconds // 60}m {seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


class Progress:
    def __init__(self, name, stream=sys.stderr, every=15.0):
        self.name, self.stream, self.every = name, stream, every
        self.start = self.last = time.monotonic()
        self.first_share = None
        self.live = stream.isatty()

    def show(self, share, what=""):
        now = time.monotonic()
        if self.first_share is None:
            self.first_share = share
        if not self.live and now - self.last < self.every and share < 1:
            return
        self.last = now
        done = share - self.first_share
        left = f"  {duration((now - self.start) * (1 - share) / done)} left" if done > 0 and share < 1 else ""
        line = f"{self.name} {100 * share:3.0f}%  {what}{left}"
        self.stream.write(f"\r\x1b[K{line}" if self.live else line + "\n")
        self.stream.flush()

    def finish(self):
        if self.live:
            self.stream.write("\r\x1b[K")
