"""What the service costs: processor time a request, p99 at a steady rate, start, memory.

    PYTHONPATH=src python benchmarks/service.py SHELF [--rate 200] [--seconds 60] [--requests 5000]

Starts ``undersong serve SHELF`` as a process of its own, asks it for the ten most similar artists
over keep-alive connections, and reads what the process used from /proc. Clients run in this
process; processor time of the server is not theirs. On a busy machine times of day say little;
processor time grows there, too, so compare it with that of a request that does nothing. The package
is compiled before, as it is when it is installed: otherwise half of the start is compiling.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np

from undersong import runs

CONNECTIONS = 32
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure one shelf and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shelf", type=Path)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=5000, help="for the processor time")
    given = parser.parse_args()
    items = runs.read(given.shelf).items("artist")["id"].to_list()
    paths = [f"/api/items/artist/{quote(x, safe='')}/similar?k=10" for x in items]
    environment = compiled()
    begin = time.perf_counter()
    command = [sys.executable, "-m", "undersong", "serve", str(given.shelf), "--port", "0"]
    log = subprocess.DEVNULL  # the lines are written all the same
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as server:
        try:
            line = server.stdout.readline()
            started = time.perf_counter() - begin
            used = processor(server.pid)
            port = int(line.split(": ")[0].rpartition(":")[2])
            print(line.strip())
            print(f"start: {started:.2f} s, of processor time {used:.2f} s")
            time.sleep(3)  # what is made ready after the start
            print(f"memory after start: {memory(server.pid)}; torch: {has_torch(server.pid)}")
            asyncio.run(measure(server.pid, port, paths, given))
            print(f"memory after all: {memory(server.pid)}")
        finally:
            server.terminate()
        print(f"stopped by SIGTERM with exit code {server.wait(30)}")


def compiled() -> dict[str, str]:
    """Compile the package as its installation does; the environment in which that is used."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    package = str(Path(runs.__file__).parent)
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], env=environment, check=True)
    return environment


async def measure(pid: int, port: int, paths: list[str], given: argparse.Namespace) -> None:
    """Ask as fast as may be, then at a steady rate."""
    draw = random.Random(1)
    await ask(port, [draw.choice(paths) for _ in range(300)], rate=None)
    for what, wanted in (
        ("that do nothing (/health)", ["/health"] * given.requests),
        ("for the ten most similar", [draw.choice(paths) for _ in range(given.requests)]),
    ):
        before = processor(pid)
        _, failed = await ask(port, wanted, rate=None)
        cost = (processor(pid) - before) / given.requests
        print(f"{given.requests} requests {what}: {cost * 1e6:.0f} us each, {failed} failed")
    wanted = [draw.choice(paths) for _ in range(int(given.rate * given.seconds))]
    seconds, failed = await ask(port, wanted, rate=given.rate)
    middle, late, last = (1e3 * np.percentile(seconds, x) for x in (50, 99, 100))
    print(
        f"{given.rate:g} requests/s for {given.seconds:g} s: median {middle:.2f} ms, p99 "
        f"{late:.2f} ms, slowest {last:.1f} ms, {failed} failed"
    )


async def ask(port: int, paths: list[str], *, rate: float | None) -> tuple[list[float], int]:
    """Send requests over a few connections; seconds each took since it was due, and failures."""
    begin = time.perf_counter()
    due = [begin + at / rate if rate else 0.0 for at in range(len(paths))]
    waiting = list(zip(due, paths, strict=True))[::-1]
    seconds: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            when, path = waiting.pop()
            await asyncio.sleep(max(when - time.perf_counter(), 0))
            start = when or time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            seconds.append(time.perf_counter() - start)
            failed += not head.startswith(b"http/1.1 200")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return seconds, failed


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> str:
    """Resident memory now, and at most so far."""
    told = dict(x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(told[x].split()[0]) / 1e3 for x in ("VmRSS", "VmHWM"))
    return f"{now:.0f} MB, at most {most:.0f} MB"


def has_torch(pid: int) -> str:
    """Say whether a process has loaded torch."""
    return "loaded" if "libtorch" in Path(f"/proc/{pid}/maps").read_text() else "not loaded"


if __name__ == "__main__":
    main()
