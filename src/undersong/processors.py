"""Processors: how many this process may use, threads that sleep while they wait, wide products.

The threads of a parallel region wait for each other at its end. As compilers set it, they spin
meanwhile; where other programs want the processors, each spins for as long as the one it waits for
is not running. Asleep they cost nothing: see docs/speed.md for both kinds of machine.
"""

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

Value = TypeVar("Value")

COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
CGROUPS = Path("/sys/fs/cgroup")
AVX_512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


class computed_once(cached_property[Value]):
    """A property computed at the first question; other threads that ask meanwhile wait for it.

    Of ``cached_property`` each thread computes its own: forty questions to a service that has just
    begun would read the same gigabytes forty times.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        super().__init__(compute)
        self._computing = RLock()

    if not TYPE_CHECKING:  # for which it is a cached_property

        def __get__(self, instance: object, owner: type | None = None) -> Any:
            with self._computing:
                return super().__get__(instance, owner)


def usable_processors(*, cgroups: Path = CGROUPS, membership: Path | None = None) -> int:
    """Return how many processors affinity and the quota of a container or service allow, >= 1.

    Parameters
    ----------
    cgroups : where the kernel shows control groups
    membership : the file that names this process's group, as ``/proc/self/cgroup``
    """
    quota = min(_quotas(cgroups, membership or Path("/proc/self/cgroup")), default=float("inf"))
    return max(1, int(min(affine_processors(), quota)))


def affine_processors() -> int:
    """Return how many processors this process may run on, whatever its share of them is."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def underrated(description: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether libraries take this processor for a lesser one: AVX-512, but not made by Intel.

    MKL multiplies float32 with half the width there, and so does OpenBLAS on one that is younger
    than itself.
    """
    with suppress(OSError):
        lines = (line.partition(":") for line in description.read_text().splitlines())
        fields = {name.strip(): value.split() for name, _, value in lines}
        return set(fields.get("flags", [])) >= AVX_512 and fields.get("vendor_id") != [
            "GenuineIntel"
        ]
    return False


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the libraries that are not loaded yet wait asleep, with no more threads than allowed.

    They also learn how wide the processor multiplies. What a person has set stands. Counts are only
    set below the number of processors: above it, each library knows best.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if underrated():
        environment.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    processors = usable_processors()
    if processors < affine_processors():
        for name in COUNTS:
            environment.setdefault(name, str(processors))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the quota, in processors, of each control group that this process is in."""
    with suppress(OSError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            path = Path(group)
            for each in (path, *path.parents):  # version 2 has one tree and names no controllers
                yield from _quota(cgroups / controllers / str(each).lstrip("/"))


def _quota(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError, ZeroDivisionError):  # "max", -1, no quota here
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        allowed = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        if allowed > 0:
            yield allowed / int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
