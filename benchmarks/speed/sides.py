"""Interleaved rounds of several ways to do one thing: median seconds and peak memory of each."""

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def measure(ways: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, dict[str, float]]:
    """Run every way once in each round, after one round that does not count.

    Returns for each way its median ``seconds`` of the processor, all threads together, since
    others may use it too, and ``mebibytes``, the memory it took beyond what was there before, at
    its highest; 0 where the system does not tell (Linux does).
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            gc.collect()
            before = _reset_peak()
            started = time.process_time()
            way()
            spent = time.process_time() - started
            if turn:
                found[name].append((spent, _memory("VmHWM") - before))
    return {
        name: {
            "seconds": statistics.median(x[0] for x in seen),
            "mebibytes": statistics.median(x[1] for x in seen),
        }
        for name, seen in found.items()
    }


def peak_alone(way: Callable[[int], float], size: int) -> float:
    """What ``way`` returns when a process of its own runs it: nothing there was freed before."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        return pool.submit(way, size).result()


def case(stage: str, size: str, sides: dict[str, dict[str, float]], **more: Any) -> dict[str, Any]:
    """One comparison: the first side is undersong, the second what a user would pick instead."""
    ours, other = list(sides)[:2]
    ratio = sides[other]["seconds"] / sides[ours]["seconds"]
    return {"stage": stage, "size": size, "sides": sides, "times as fast": ratio} | more


def _reset_peak() -> float:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _memory("VmRSS")


def _memory(key: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith(key))
