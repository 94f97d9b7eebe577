"""How long work tells of itself. The library never prints; the command line shows this."""

from typing import Protocol


class Progress(Protocol):
    """Called at every step of long work."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``stage`` names the work, ``done`` of ``total`` steps are finished, ``note`` adds a word.

        ``total`` may shrink when work ends early; the last call has ``done == total``.
        """


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Show nothing."""
