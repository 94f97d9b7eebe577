"""What the service costs: memory, processor time a request, p99 at a steady rate, a cold start.

    PYTHONPATH=src python benchmarks/service.py SHELF [--rate 100] [--seconds 60] [--requests 2000]

Puts the files of SHELF out of memory, starts ``undersong serve SHELF`` as a process of its own,
asks it for the ten most similar items of random ones over keep-alive connections, and reads what
the process used from /proc. Clients run in this process; processor time of the server is not
theirs. At the end the same is asked without a server, in this process. On a busy machine times of
day say little; processor time grows there, too, so compare it with that of a request that does
nothing. The package is compiled before, as it is when it is installed: otherwise half of the start
is compiling.
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

from undersong import load, runs

CONNECTIONS = 32
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure one shelf and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shelf", type=Path)
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=2000, help="for the processor time")
    given = parser.parse_args()
    run = runs.read(given.shelf)
    kind = run.manifest["kind"]
    items = run.items(kind)["id"].to_list()
    paths = [f"/api/items/{kind}/{quote(x, safe='')}/similar?k=10" for x in items]
    environment = compiled()
    print(f"{len(items):,} {kind}s; {forget(run.home) / 1e6:,.0f} MB of files put out of memory")
    begin = time.perf_counter()
    command = [sys.executable, "-m", "undersong", "serve", str(given.shelf), "--port", "0"]
    log = subprocess.DEVNULL  # the lines are written all the same
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as server:
        try:
            line = server.stdout.readline()
            started, used = time.perf_counter() - begin, processor(server.pid)
            port = int(line.split(": ")[0].rpartition(":")[2])
            print(line.strip())
            print(f"cold start: {started:.2f} s, of processor time {used:.2f} s")
            asyncio.run(measure(server.pid, port, paths, given, begin=begin))
            print(f"memory after all: {memory(server.pid)}; torch: {has_torch(server.pid)}")
        finally:
            server.terminate()
        print(f"stopped by SIGTERM with exit code {server.wait(30)}")
    ask_here(given.shelf, kind, items)


def forget(home: Path) -> int:
    """Put the files of a generation out of memory, as after a start of the machine; their bytes."""
    size = 0
    for path in home.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # only what is on the disk can go
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            size += path.stat().st_size
    return size


def ask_here(shelf: Path, kind: str, items: list[str], *, count: int = 300) -> None:
    """Ask a model in this process, and print what a query takes."""
    model, draw = load(shelf), random.Random(2)
    model.similar(items[0], kind=kind, k=10)
    seconds = []
    begin = time.process_time()
    for item in draw.choices(items, k=count):
        start = time.perf_counter()
        model.similar(item, kind=kind, k=10)
        seconds.append(time.perf_counter() - start)
    cost = (time.process_time() - begin) / count
    print(f"in process: {cost * 1e3:.2f} ms of processor time; {quantiles(seconds)}")


def quantiles(seconds: list[float]) -> str:
    """Write the median, the 99th percentile and the slowest of some times."""
    middle, late, last = (1e3 * np.percentile(seconds, x) for x in (50, 99, 100))
    return f"median {middle:.2f} ms, p99 {late:.2f} ms, slowest {last:.1f} ms"


def compiled() -> dict[str, str]:
    """Compile the package as its installation does; the environment in which that is used."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    package = str(Path(runs.__file__).parent)
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], env=environment, check=True)
    return environment


async def measure(
    pid: int, port: int, paths: list[str], given: argparse.Namespace, *, begin: float
) -> None:
    """Ask at a steady rate from the start on, then as fast as may be, then steadily again."""
    draw = random.Random(1)

    async def steadily(when: str) -> None:
        wanted = draw.choices(paths, k=int(given.rate * given.seconds))
        before, start = processor(pid), time.perf_counter()
        seconds, failed = await ask(port, wanted, rate=given.rate)
        busy = (processor(pid) - before) / (time.perf_counter() - start)
        print(
            f"{given.rate:g} requests/s for {given.seconds:g} s, {when}: {quantiles(seconds)}, "
            f"{failed} failed; {busy:.0%} of a processor"
        )

    await ask(port, [draw.choice(paths)], rate=None)
    print(f"first answer: {time.perf_counter() - begin:.2f} s after the start")
    await steadily("from the first answer on")
    print(f"memory then: {memory(pid)}")
    for what, wanted in (
        ("that do nothing (/health)", ["/health"] * given.requests),
        ("for the ten most similar", draw.choices(paths, k=given.requests)),
    ):
        before = processor(pid)
        _, failed = await ask(port, wanted, rate=None)
        cost = (processor(pid) - before) / given.requests
        print(f"{given.requests} requests {what}: {cost * 1e6:.0f} us each, {failed} failed")
    await steadily("later")


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
    """Resident memory now, files among it that may go at any time, and at most so far."""
    status = dict(x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines())
    names = ("VmRSS", "RssFile", "VmHWM")
    now, mapped, most = (int(status[x].split()[0]) / 1e3 for x in names)
    return f"{now:.0f} MB, {mapped:.0f} MB of it mapped files, at most {most:.0f} MB"


def has_torch(pid: int) -> str:
    """Whether a process has loaded torch."""
    return "loaded" if "libtorch" in Path(f"/proc/{pid}/maps").read_text() else "not loaded"


if __name__ == "__main__":
    main()
