"""Wall time of training steps on all processors, by how their threads wait for each other.

    python benchmarks/speed/waiting.py

Prints JSON: median seconds on a quiet machine and beside as many busy processes as there are
processors. As libraries set it, threads spin; the command line lets them sleep; one thread waits
for nobody.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import contextmanager

from undersong.processors import affine_processors, set_threads

WAYS = {
    "undersong": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "as libraries set it": {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": ""},
}
STEPS = """
import sys, time, torch
layer = torch.nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True)
x = torch.randn(int(sys.argv[1]), 16, 256)
for step in range(1 + int(sys.argv[2])):
    if step == 1:
        began = time.perf_counter()
    layer(x).square().mean().backward()
print(time.perf_counter() - began)
"""


def waiting(*, items, steps, rounds):
    """Seconds of ``steps`` steps in each way, medians of interleaved rounds."""
    seconds = {f"{way}, {machine}": [] for machine in ("quiet", "busy") for way in WAYS}
    for _ in range(rounds):
        for name, runs in seconds.items():
            way, machine = name.rsplit(", ", 1)
            with busy_processes(affine_processors() if machine == "busy" else 0):
                runs.append(steps_alone(WAYS[way], items=items, steps=steps))
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def steps_alone(variables, *, items, steps):
    """Seconds of the steps in a process of its own, which reads ``variables`` at its start."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    set_threads(environment)
    environment = {k: v for k, v in (environment | variables).items() if v}
    words = [sys.executable, "-c", STEPS, str(items), str(steps)]
    run = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(run.stdout)


@contextmanager
def busy_processes(count):
    """Keep so many processors busy meanwhile."""
    words = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    print(json.dumps(waiting(items=256, steps=8, rounds=5), indent=2))
