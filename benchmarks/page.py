"""How fast the page is: until one can search and see the map, and frames a second while it moves.

    undersong serve my/shelf --port 8765 &
    python benchmarks/page.py http://127.0.0.1:8765

The first view is that of the service given; the frames are of a map of 100,000 points, made up,
in place of its own. Headless Chromium draws without a graphics card, so the frames are those of the
slow way. Processor time a frame, of all of Chromium, tells also on a busy machine.
"""

import json
import shutil
import statistics
import sys

import numpy as np
import psutil
from playwright.sync_api import Browser, Route, sync_playwright

VIEWS = 5
POINTS = 100_000
SECONDS = 4
READY = """
new MutationObserver(() => {
  if (document.querySelector("#points[data-lens]")) window.drawn ??= performance.now();
}).observe(document, { subtree: true, childList: true, attributes: true });
"""
FRAMES = """async (milliseconds) => {
  const canvas = document.getElementById("points");
  const times = [];
  const start = performance.now();
  const { width, height } = canvas.getBoundingClientRect();
  const turn = (now) => {
    times.push(now);
    const place = { clientX: 0.7 * width, clientY: 0.5 * height, cancelable: true };
    const away = Math.sin((now - start) / 500) * 40;
    canvas.dispatchEvent(new WheelEvent("wheel", { ...place, deltaY: away }));
    if (now - start < milliseconds) requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
  await new Promise((done) => setTimeout(done, milliseconds + 300));
  return times;
}"""


def first_view(browser: Browser, address: str) -> tuple[float, float, float]:
    """Milliseconds until the search works, until the map is drawn, until a letter is answered."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(READY)
    page.goto(address)
    page.wait_for_function("() => window.drawn")
    loaded, drawn = page.evaluate(
        "[performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd, window.drawn]"
    )
    asked = page.evaluate("performance.now()")
    page.get_by_role("combobox").press_sequentially("e")
    page.get_by_role("option").first.wait_for()
    answered = page.evaluate("performance.now()") - asked
    page.close()
    return loaded, drawn, answered


def made_up(points: int) -> dict[str, object]:
    """A map of 40 clouds; every third point is long tail."""
    generator = np.random.default_rng(3)
    cloud = generator.integers(40, size=points)
    places = generator.uniform(-0.9, 0.9, (40, 2))[cloud] + generator.normal(0, 0.05, (points, 2))
    places = np.clip(places, -1, 1).round(4)
    labels = [
        {"text": f"genre {x}", "x": 0.1 * (x % 9) - 0.4, "y": x / 20 - 1, "zoom": 1}
        for x in range(40)
    ]
    return {
        "generation": 1,
        "count": points,
        "ids": [f"i{x}" for x in range(points)],
        "names": [f"Item {x}" for x in range(points)],
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "long_tail": (np.arange(points) % 3 == 0).astype(int).tolist(),
        "genre": cloud.tolist(),
        "genres": [f"genre {x}" for x in range(40)],
        "labels": labels,
    }


def busy() -> float:
    """Seconds of processor time that Chromium has taken so far."""
    found = psutil.Process().children(recursive=True)
    times = [x.cpu_times() for x in found if x.name().startswith("chrom")]
    return sum(x.user + x.system for x in times)


def frames(browser: Browser, address: str) -> tuple[str, list[float], float]:
    """How it is drawn, milliseconds of each frame as the map zooms, and processor time of one."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    body = json.dumps(made_up(POINTS))

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="application/json")

    page.route("**/api/map?**", answer)
    page.goto(address)
    page.wait_for_selector(f"#points[data-count='{POINTS}'][data-lens]")
    page.wait_for_timeout(1000)
    before = busy()
    times = page.evaluate(FRAMES, SECONDS * 1000)
    each = 1000 * (busy() - before) / len(times)
    drawn = page.get_attribute("#points", "data-drawn") or ""
    page.close()
    return drawn, np.diff(times).tolist(), each


def main(address: str) -> None:
    """Print the figures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        views = [first_view(browser, address) for _ in range(VIEWS)]
        names = ("page ready", "map drawn", "a letter answered")
        for name, found in zip(names, zip(*views, strict=True), strict=True):
            print(f"{name}: median {statistics.median(found):.0f} ms, worst {max(found):.0f} ms")
        drawn, steps, each = frames(browser, address)
        rate = 1000 * len(steps) / sum(steps)
        slow = np.percentile(steps, 95)
        print(
            f"{POINTS:,} points, {drawn}: {rate:.0f} frames/s, 95 % within {slow:.0f} ms; "
            f"{each:.1f} ms of processor a frame"
        )
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
