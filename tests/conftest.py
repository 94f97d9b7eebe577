"""One thread a test: the sizes are small, and two threads on busy cores wait for each other.

No test hears with the ears that are installed on this machine. What takes seconds to make is made
once for all files: a trained run, of which each file gets a copy, and the service of the page.
"""

import os
import shutil
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["UNDERSONG_EARS"] = str(Path(__file__).parent / "no-ears")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def _reading_once(tmp_path_factory):
    from adding_worlds import reading_run

    return reading_run(tmp_path_factory.mktemp("reading")).folder.parent


@pytest.fixture(scope="session")
def _hearing_once(tmp_path_factory):
    from adding_worlds import hearing_run

    return hearing_run(tmp_path_factory.mktemp("hearing")).folder.parent


@pytest.fixture(scope="module")
def reading_home(_reading_once, tmp_path_factory):
    """The small world as ``catalogue``, ``quick.toml``, and the ``run`` that they make."""
    return shutil.copytree(_reading_once, tmp_path_factory.mktemp("home") / "reading")


@pytest.fixture(scope="module")
def hearing_home(_hearing_once, tmp_path_factory):
    """The same of a world that is heard in files."""
    return shutil.copytree(_hearing_once, tmp_path_factory.mktemp("home") / "hearing")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """A reader of the shelf whose dialects are tried (``spoken``)."""
    import spoken

    return spoken.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="session")
def port(shelf):
    """The port of a service of it."""
    import spoken

    with spoken.served(shelf) as opened:
        yield opened


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The catalogue, media, run and shelf of the page (``browsing``)."""
    import browsing

    return browsing.published(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def service(folders):
    """A client of the service of the page, which several files ask."""
    import browsing

    with browsing.serving(folders, "--media", folders / "media") as client:
        yield client


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """A client of a service whose answers are in a learned order."""
    import browsing

    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(browsing.RANKED, folder / "shelf")
    with browsing.serving(folder) as client:
        yield client


@pytest.fixture(scope="module")
def browser():
    """Chromium; of one file, since it keeps a loop of events running that others would meet."""
    import browsing

    with browsing.chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser, service):
    """A function that opens an address; afterwards nothing may have broken the content policy."""
    import browsing

    with browsing.visiting(browser, str(service.base_url)) as open_page:
        yield open_page
