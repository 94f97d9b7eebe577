"""What a decoding process gives up before it opens a file of which nobody knows what it is."""

import ctypes
import os
import sys
import time

NETWORK = 0x4000_0000  # of Linux's unshare: a network of its own, with nothing in it
USER = 0x1000_0000  # a user namespace, without which only root may ask for that


def confine(*, memory: int) -> None:
    """Give up for good: more than ``memory`` bytes, written files, core dumps, the network.

    Memory and files hold on every system but Windows. The network goes on Linux where the
    system lets a process leave it; elsewhere nothing forbids it.
    """
    if sys.platform == "win32":
        return  # no such limits there; the clock of the parent still holds
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        # Root first without a user namespace: within one it could not read the files of others.
        if library.unshare(NETWORK):
            library.unshare(USER | NETWORK)


def allow_processor(seconds: float) -> None:
    """End this process once it has computed for so long from now, also if its parent is gone."""
    if sys.platform == "win32":
        return
    import resource

    limit = int(time.process_time() + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def close_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for us alone, at the two numbers given back.

    A library that reads or prints then meets the empty device and does not garble the answers.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    return requests, answers
