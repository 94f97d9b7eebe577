"""Two Ray nodes on this machine with one processor each, for tests and measurements."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
RAY = Path(sys.executable).with_name("ray")


class Nodes:
    """A head and one more node with one processor each, which share a token and a home."""

    def __init__(self, home):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.home = home
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "HOME": str(home),
            "PYTHONPATH": path,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "5" * 64,
            "RAY_raylet_start_wait_time_s": "120",  # of a machine that is busy
            "OMP_NUM_THREADS": "1",
        }
        self.nodes = []

    def gather(self):
        port = self.address.rpartition(":")[2]
        # Sockets lie in this folder, and their names may not be long.
        where = ["--include-dashboard=false", f"--temp-dir={self.home}/r"]
        self.start("--head", f"--port={port}", *where)
        self.wait(0)
        self.start(f"--address={self.address}")
        self.wait(1)

    def start(self, *words):
        common = ["--block", "--num-cpus=1", "--object-store-memory=300000000"]
        with self.log(len(self.nodes)).open("w") as log:
            node = subprocess.Popen(
                [RAY, "start", *common, "--disable-usage-stats", *words],
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)

    def log(self, number):
        return self.home / f"node{number}.log"

    def wait(self, number):
        """Until a node has joined."""
        while "Ray runtime started" not in (said := self.log(number).read_text()):
            assert self.nodes[number].poll() is None, said
            time.sleep(0.2)

    def begin(self, *words):
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def undersong(self, *words):
        return self.begin("-m", "undersong", "--cluster", self.address, *words)

    def stop(self):
        for node in self.nodes:
            for pid in [node.pid, *below(node.pid)]:
                end(pid)
            node.wait()


def end(pid):
    """Kill a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def below(pid):
    """Processes that a process started, and those that they started."""
    children = []
    with suppress(OSError):  # it has ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    return [x for child in children for x in (child, *below(child))]
