"""Processors: a share of them is known, and threads wait asleep unless a person says otherwise."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest

from undersong.processors import (
    COUNTS,
    affine_processors,
    computed_once,
    set_threads,
    underrated,
    usable_processors,
)


def groups(folder, *, membership, quotas):
    """Write control groups as the kernel shows them; return what ``usable_processors`` reads."""
    for name, text in quotas.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "membership").write_text(membership)
    return {"cgroups": folder / "groups", "membership": folder / "membership"}


@pytest.mark.parametrize(
    ("membership", "quotas"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}),
        ("0::/a/b/c.service\n", {"a/cpu.max": "70000 70000\n", "a/b/c.service/cpu.max": "max 9\n"}),
        ("0::/elsewhere\n", {"cpu.max": "130000 100000\n"}),  # a container sees itself as the root
        (
            "4:cpu,cpuacct:/x\n3:memory:/y\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
        ),
    ],
)
def test_a_quota_counts_like_missing_processors(tmp_path, membership, quotas):
    assert usable_processors(**groups(tmp_path, membership=membership, quotas=quotas)) == 1


@pytest.mark.parametrize("quotas", [{}, {"cpu.max": "max 100000\n"}, {"cpu.cfs_quota_us": "-1"}])
def test_without_a_quota_affinity_counts(tmp_path, quotas):
    kernel = groups(tmp_path, membership="0::/\n", quotas=quotas)
    assert usable_processors(**kernel) == affine_processors()


def test_a_persons_own_variables_stand(monkeypatch):
    monkeypatch.setattr("undersong.processors.usable_processors", lambda: affine_processors() - 1)
    environment = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "17"}
    set_threads(environment)
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert [environment[x] for x in COUNTS] == ["17", *[str(affine_processors() - 1)] * 5]


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", "fma avx512f avx512dq avx512bw avx512cd avx512vl", True),
        ("AuthenticAMD", "fma avx2", False),
        ("GenuineIntel", "avx512f avx512dq avx512bw avx512cd avx512vl", False),
    ],
)
def test_a_processor_is_underrated_that_is_wide_and_of_another_maker(
    tmp_path, vendor, flags, expected
):
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    assert underrated(described) == expected
    assert not underrated(tmp_path / "nowhere")


@pytest.mark.parametrize("wide", [True, False])
def test_only_where_the_processor_is_underrated_libraries_learn_how_wide_it_is(monkeypatch, wide):
    monkeypatch.setattr("undersong.processors.underrated", lambda: wide)
    environment: dict[str, str] = {}
    set_threads(environment)
    assert environment.get("OPENBLAS_CORETYPE") == ("SkylakeX" if wide else None)
    environment = {"OPENBLAS_CORETYPE": "Haswell"}
    set_threads(environment)
    assert environment["OPENBLAS_CORETYPE"] == "Haswell"


def test_the_command_line_sets_them_before_torch_is_loaded():
    program = (
        "import sys, undersong.cli, os; assert not {'torch', 'polars'} & set(sys.modules);"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    bare = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=bare)
    assert run.stdout == "PASSIVE\n"


def test_what_two_threads_ask_for_is_computed_by_one():
    together, computed = Barrier(2), []

    class Asked:
        @computed_once
        def answer(self) -> object:
            computed.append(self)
            with suppress(BrokenBarrierError):  # nobody else comes
                together.wait(timeout=0.3)
            return object()

    asked, other = Asked(), Asked()
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: asked.answer, range(2)))
    assert computed == [asked]
    assert answers[0] is answers[1] is asked.answer
    assert other.answer is not asked.answer
