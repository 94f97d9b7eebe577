"""Every stage beside what a user would pick instead: JSON, and a page with a plot.

    scripts/bench [--quick] [--only STAGE] [--out FOLDER] [--from docs/speed.json]

Each stage runs in a process of its own, so that one leaves no memory to the next; within a stage
the ways take turns. Without ``--quick`` the page and its files go to docs/. ``--from`` measures
nothing and draws page and plot again from what was measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from waiting import waiting

from undersong.io.files import replacing

HERE = Path(__file__).parent
NAMES = ("log_mel", "loss", "graph_step", "training", "listeners", "search", "judging")
STEPS = {"items": 256, "steps": 8, "rounds": 5}  # on all processors, quiet and busy


def main():
    """Measure the stages asked for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=NAMES)
    parser.add_argument("--out", type=Path, default=HERE.parent.parent / "docs")
    parser.add_argument("--from", dest="measured", type=Path)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(measure_stage(given.stage, quick=given.quick)))
        return
    if given.measured:
        write_page(given.out, json.loads(given.measured.read_text(encoding="utf-8")))
        return
    cases, before = [], given.out / "speed.json"
    known = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    others = {k: v for k, v in known.items() if k == "elsewhere"}  # machines that are not here
    for name in given.only or NAMES:
        print(name, file=sys.stderr, flush=True)
        cases += in_its_own_process(name, given)
        reached = in_its_own_process("machine", given)
        found = {"cores": machine_named(), "machine": reached} | others | {"cases": cases}
        write_found(given.out / "speed.json", found)  # what is measured stays if a stage fails
    sizes = {"items": 8, "steps": 2, "rounds": 1} if given.quick else STEPS
    found["waiting"] = waiting(**sizes)
    write_found(given.out / "speed.json", found)
    write_page(given.out, found)


def in_its_own_process(stage, given):
    """What a stage found."""
    words = [sys.executable, "-W", "ignore", __file__, "--stage", stage]
    words += ["--quick"] if given.quick else []
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_stage(stage, *, quick):
    """Measure one stage on one thread."""
    import stages
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        if stage == "machine":
            return stages.machine(quick)
        return list(stages.STAGES[stage](quick))


def write_found(path, found):
    """Write what was found in its own order, which is that of the page."""
    with replacing(path) as temporary:
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_page(out, found):
    """Write speed.md and speed.svg beside the JSON."""
    about = ", ".join(f"{value:.3g} {name}" for name, value in found["machine"].items())
    lines = [
        "# Speed, side by side",
        "",
        f"Measured on {found['cores']}.",
        "",
        "Written by `scripts/bench`: processor time on one thread, medians of interleaved rounds,",
        "each stage in a process of its own. Its two cores were shared with other work meanwhile,",
        "so compare within a stage, by how many times undersong's time a way takes: below 1",
        "undersong loses. Memory is what a way adds at its peak; that of the losses is of one step",
        "in a process of its own.",
        "Losses of more than 2,000 items have one round, co-listening two.",
        "",
        "*Plain PyTorch* is an encoder of the same size on the same items with the loss of",
        "pytorch-metric-learning. It has no prior loss, no feature crossing, no field weights,",
        "hides no source, and draws items at random: batches with fewer related pairs (below).",
        "",
        f"What one thread of this machine does: {about}.",
        "",
    ]
    elsewhere = found.get("elsewhere", {})  # machine -> stage -> times undersong's time
    if elsewhere:
        lines += ["The last columns were measured on other machines, of an earlier version.", ""]
    heads = ["stage", "size", "way", "ms", "MiB more at its peak", "times undersong's time"]
    heads += [f"the same: {x}" for x in elsewhere]
    lines += [f"| {' | '.join(heads)} |", f"|---|---|---|---:|---:|---:|{'---:|' * len(elsewhere)}"]
    for case in found["cases"]:
        own = case["sides"]["undersong"]["seconds"]
        for place, (way, side) in enumerate(case["sides"].items()):
            numbers = (1e3 * side["seconds"], side["mebibytes"], side["seconds"] / own)
            shown = [f"{x:,.{d}f}" for x, d in zip(numbers, (2, 0, 2), strict=True)]
            shown[1] = shown[1] if side["mebibytes"] else "not told"
            shown += [x.get(case["stage"], "") if place == 1 else "" for x in elsewhere.values()]
            cells = " | ".join(shown)
            lines.append(f"| {case['stage']} | {case['size']} | {way} | {cells} |")
    checks = [f"- {x['stage']}, {x['size']}: {x['check']}." for x in found["cases"] if "check" in x]
    lines += ["", "What was computed is the same:" if checks else "", "", *checks]
    lines += waiting_table(found["waiting"])
    lines += ["", "![Times as fast as the other way](speed.svg)", ""]
    with replacing(out / "speed.md") as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    draw(out / "speed.svg", found["cases"])


def waiting_table(seconds):
    """Lines of the table of quiet and busy machines."""
    ways = dict.fromkeys(x.rpartition(", ")[0] for x in seconds)
    rows = [f"| {x} | {seconds[f'{x}, quiet']:.2f} | {seconds[f'{x}, busy']:.2f} |" for x in ways]
    return [
        "",
        "On all processors, wall seconds of eight steps of a transformer layer, quiet and beside",
        "as many busy processes as there are processors. Threads of a parallel region wait for",
        "each other; as libraries set it they spin, the command line lets them sleep",
        "(`OMP_WAIT_POLICY=PASSIVE`, unless you set it).",
        "",
        "| way | quiet | busy |",
        "|---|---:|---:|",
        *rows,
    ]


def machine_named():
    """Name cores and the instructions that matter here; Linux tells which there are."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{os.cpu_count()} cores"
    fields = dict(re.findall(r"^(.+?)\s*: (.*)$", told, re.MULTILINE))
    flags = fields.get("flags", "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    has = " ".join(x for x in wanted if x in flags)
    return f"{os.cpu_count()} cores ({fields.get('model name', 'unnamed')}; {has})"


def draw(path, cases):
    """Draw how many times as fast each stage is as the way beside it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "undersong"  # the same plot twice is the same file
    from matplotlib import pyplot as plt

    names = [f"{x['stage']}, {x['size']}\nagainst {list(x['sides'])[1]}" for x in cases]
    ratios = [x["times as fast"] for x in cases]
    figure, axes = plt.subplots(figsize=(8, 0.6 * len(cases) + 1), layout="constrained")
    bars = axes.barh(names, ratios, color="#4477aa")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("times as fast (right of the line: undersong is faster)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
