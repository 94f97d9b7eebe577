"""A real browser (headless Chromium) before a real service that serves a real run."""

import os
import re
import shutil
import subprocess
import sys
import wave
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong.catalogue import tables
from undersong.cli.main import cli

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: scripts/setup dev"
)
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: the page is not tested (apt-get install chromium)"
)

MARKUP = "<img src=x onerror=\"document.title='broken'\">"
ARABIC = "فيروز (1935)"
PAGE = Path(__file__).parent.parent / "src" / "undersong" / "web"
RANKED = Path(__file__).parent / "fixtures" / "ranked-1"
COUNTING = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def undersong(*words):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == 0, result.output


def world():
    """A small world with awkward names, and decades."""
    made = small_world()
    names = made.artists["name"].to_list()
    names[0], names[5] = MARKUP, ARABIC
    return replace(made, artists=made.artists.with_columns(pl.Series("name", names)))


def heard(folder):
    """The same with a file of some tracks, to be played."""
    made = world()
    (folder / "audio").mkdir(parents=True)
    for name in ("one.wav", "two.wav"):
        with wave.open(str(folder / "audio" / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.zeros(4000, dtype="<i2").tobytes())
    paths = ["one.wav", *[None] * (len(made.tracks) - 2), "two.wav"]
    tracks = made.tracks.with_columns(pl.Series("path", paths, dtype=pl.String))
    return replace(made, tracks=tracks, audio_root=folder / "audio")


def published(folder):
    """Train, evaluate and publish the small world."""
    tables.write_catalogue(world(), folder / "catalogue")
    tables.write_catalogue(heard(folder), folder / "media")
    (folder / "quick.toml").write_text(QUICK_SETTINGS)
    undersong("train", folder / "catalogue", folder / "run", "--settings", folder / "quick.toml")
    undersong("evaluate", folder / "run")
    undersong("publish", folder / "run", folder / "shelf")
    return folder


def start(folders, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "undersong", "serve", folders / "shelf", "--port", "0", "--quiet"]
        + list(map(str, options)),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    line = process.stdout.readline()
    return process, re.search(r"http://[\d.]+:\d+", line)[0]


def stop(process):
    process.terminate()
    process.wait(timeout=30)
    process.stdout.close()


@contextmanager
def serving(folders, *options):
    """A service in a process of its own; gives a client of it."""
    process, address = start(folders, *options)
    try:
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client
    finally:
        stop(process)


@contextmanager
def chromium():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--enable-unsafe-swiftshader"]
        )
        yield opened
        opened.close()


@contextmanager
def visiting(browser, address):
    """A function that opens pages; afterwards nothing may have broken the content policy."""
    contexts = []

    def open_page(query="", *, base=None, script="", **options):
        wide = {"width": 1180, "height": 760}
        context = browser.new_context(
            **{"viewport": wide, "reduced_motion": "reduce"} | options,
            base_url=base or address,
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.add_init_script(COUNTING + script)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        page.goto(f"/{query}")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.violations") == []
            assert page.faults == []
        context.close()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def ask(service, path, **wishes):
    reply = service.get(f"/api/{path}", params=wishes)
    assert reply.status_code == 200, reply.text
    return reply.json()


def similar(service, item="a02", **wishes):
    return ask(service, f"items/artist/{item}/similar", **{"k": 20} | wishes)["answers"]


def query(page):
    return {key: value[0] for key, value in parse_qs(urlsplit(page.url).query).items()}


def listed(page):
    """Names of the answers, once they are those of the address."""
    expect(page.locator("#card:not([aria-busy]) .answers > li").first).to_be_visible()
    return page.locator(".answers .what > a").all_inner_texts()


def names(answers):
    return [x["item"]["name"] for x in answers]


def lens(page):
    page.wait_for_selector("#points[data-lens]")
    return [float(x) for x in page.get_attribute("#points", "data-lens").split()]


def pixel(page, service, item):
    """Where an item of the map stands on the screen."""
    found = ask(service, "map", kind="artist")
    at = found["ids"].index(item)
    scale, left, top = lens(page)
    return left + scale * found["x"][at], top - scale * found["y"][at]
