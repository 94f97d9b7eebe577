"""Write docs/gallery.md: what commands print for a generated catalogue, and pictures of its pages.

    python scripts/pictures.py DEMO    # a folder that `undersong demo` has filled

Every block is what the command above it printed; only the sentences here are written by hand.
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from undersong import runs
from undersong.catalogue import tables

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "gallery"
VIEW = {"width": 1100, "height": 700}
HEAD = """# Gallery

Real output for the catalogue that `undersong demo` generates: 300 artists who do not exist, with
audio, listeners and relations. `scripts/gallery` makes every text and picture of this page again.
Numbers for generated data say nothing about real music: see [reproduction](reproduction.md) and
[ranking](ranking.md) for those.
"""
GROWTH = """## How time grows

Measured by `benchmarks/growth.py` on catalogues of `undersong twin`; more under [scale](scale.md).

![Processor time and memory of every stage, from a thousand artists to a million](growth.svg)
"""


def main() -> None:
    """Run every command, take every picture, write the page."""
    demo = Path(sys.argv[1]).resolve()
    PICTURES.mkdir(exist_ok=True)
    run(demo, "publish run shelf")
    run(demo, "report shelf report.html")
    export(demo)
    page = [HEAD, *commands(demo), *pictures(demo), GROWTH]
    (DOCS / "gallery.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


def run(folder: Path, line: str) -> str:
    """Run a command of undersong in a folder and return what it printed."""
    words = [sys.executable, "-m", "undersong", *shlex.split(line)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"undersong {line} failed:\n{done.stderr}")
    return done.stdout.rstrip()


def commands(demo: Path) -> Iterator[str]:
    """Yield a section for each command with what the terminal shows."""
    known, tail = examples(demo)
    answer = json.loads(run(demo, f"similar run {shlex.quote(tail)} -k 1 --json"))["name"]
    sections = (
        ("What a catalogue knows", "describe catalogue", ""),
        ("What is similar to a known artist", f"similar run {shlex.quote(known)} -k 6", ""),
        (
            "And to one that nobody has linked",
            f"similar run {shlex.quote(tail)} -k 6",
            "`long tail` marks answers that have no known relation either.",
        ),
        ("Why", f"explain run {shlex.quote(tail)} {shlex.quote(answer)}", ""),
        ("From one to the other", f"path run {shlex.quote(known)} {shlex.quote(tail)}", ""),
        ("For a listener", "recommend run --user plays.csv -k 6", ""),
        ("How good the answers are", "evaluate run", "The first of its tables:"),
        (
            "Two catalogues as one",
            "identify merged",
            "A history of Last.fm with names in other spellings was merged with the catalogue "
            "(`undersong merge`). These pairs stay apart:",
        ),
        ("Look up an artist", f"identify merged {shlex.quote(known)}", ""),
    )
    for title, line, note in sections:
        output = run(demo, line)
        if line.startswith("evaluate"):
            output = output[: output.index("Protocol paper")].rstrip()
        yield f"## {title}\n\n{note}\n" if note else f"## {title}\n"
        yield f"```\n$ undersong {line}\n{output}\n```\n"


def examples(demo: Path) -> tuple[str, str]:
    """Return the best known test artist with relations, and the best known without any."""
    items = runs.read(demo / "run").items("artist").filter(pl.col("part") == "test")
    items = items.sort("popularity", "id", descending=True, nulls_last=True)
    known, tail = (
        items.filter(x)["name"][0] for x in (items["relations"] > 0, items["relations"] == 0)
    )
    return str(known), str(tail)


def export(demo: Path) -> None:
    """Write a listener's history in other spellings, import and merge it, and a file of plays."""
    catalogue = tables.read_catalogue(demo / "catalogue")
    names = dict(zip(catalogue.ids("artist"), catalogue.names("artist"), strict=True))
    plays = catalogue.played("artist").collect()
    user = plays.group_by("user").len().sort("len", "user", descending=True)["user"][0]
    own = plays.filter(pl.col("user") == user).sort("plays", "item", descending=True)
    played = [(names[item], int(count)) for item, count in own.select("item", "plays").rows()]
    table = io.StringIO()
    csv.writer(table).writerows([("name", "plays"), *played[:9]])
    (demo / "plays.csv").write_text(table.getvalue(), encoding="utf-8")
    known, tail = examples(demo)
    spellings = [known.upper(), f"{known} feat. {tail}", f"{known} & {tail}", tail.lower()]
    lines = io.StringIO()
    csv.writer(lines).writerows(
        (name, "", f"Song {number}", f"{number + 1:02} Aug 2026 12:14")
        for number, name in enumerate([*spellings, *(name for name, _ in played[:20])])
    )
    (demo / "scrobbles.csv").write_text(lines.getvalue(), encoding="utf-8")
    run(demo, "import lastfm scrobbles.csv scrobbled --user ann")
    shutil.rmtree(demo / "merged", ignore_errors=True)
    run(demo, "merge catalogue scrobbled merged")


def pictures(demo: Path) -> Iterator[str]:
    """Yield pictures of the page that the service shows, and of the report."""
    _, tail = examples(demo)
    items = runs.read(demo / "run").items("artist")
    item = items.filter(pl.col("name") == tail)["id"][0]
    first = json.loads(run(demo, f"similar run {shlex.quote(tail)} -k 1 --json"))["name"]
    answer = items.filter(pl.col("name") == first)["id"][0]
    with sync_playwright() as playwright, serving(demo) as address:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            args=["--enable-unsafe-swiftshader"],
        )
        yield "## The page\n\n`undersong serve shelf` shows it; the accent means the long tail.\n"
        yield shoot(browser, f"{address}/", "map", "The map, with the search over it")
        yield shoot(
            browser,
            f"{address}/?artist={item}&why={answer}",
            "card",
            f"What is similar to {tail}, and why",
        )
        yield shoot(browser, f"{address}/?page=report", "methods", "How good the model is")
        yield "## The report\n"
        yield "`undersong report shelf report.html` writes one file that opens anywhere.\n"
        file = (demo / "report.html").as_uri()
        for part in ("data", "accuracy", "map"):
            yield shoot(
                browser, file, f"report-{part}", f"Section {part}, its beginning", part=f"#{part}"
            )
        browser.close()


@contextmanager
def serving(demo: Path) -> Iterator[str]:
    """Serve the shelf on a free port while it is needed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "undersong", "serve", "shelf", "--port", "0", "--quiet"],
        cwd=demo,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        if address is None:
            sys.exit("the service did not start")
        yield address[0]
    finally:
        process.terminate()
        process.wait(timeout=30)


def shoot(browser: Browser, address: str, name: str, caption: str, *, part: str = "") -> str:
    """Take a picture of a page or of a part of it; return its Markdown."""
    context = browser.new_context(viewport=VIEW, reduced_motion="reduce", color_scheme="light")
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    page.wait_for_timeout(3000)  # the map comes to rest
    image = page.locator(part).first.screenshot() if part else page.screenshot()
    whole = Image.open(io.BytesIO(image)).convert("RGB")
    top = whole.crop((0, 0, whole.width, min(whole.height, VIEW["height"])))  # of many tables
    # An octree keeps the few colours that mean something.
    picture = top.quantize(method=Image.Quantize.FASTOCTREE)
    picture.save(PICTURES / f"{name}.png", optimize=True)
    context.close()
    return f"![{caption}](gallery/{name}.png)\n\n*{caption}.*\n"


if __name__ == "__main__":
    main()
