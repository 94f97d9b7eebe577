"""The service keeps to its OpenAPI whatever it is asked: schemathesis, a few seeded requests.

``benchmarks/fuzz_service.py`` asks thousands.
"""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from spoken import make_shelf
from undersong.service.app import make_app
from undersong.service.options import ServiceSettings

CONFIG = Path(__file__).parent.parent / "benchmarks" / "fuzz_service.toml"

POSTED = ["/api/playlist", "/api/recommend"]
PATHS = [
    *POSTED,
    "/api/items/{kind}/{id}/similar",
    "/api/items/{kind}/{id}",
    "/api/items",
    "/api/search",
    "/api/explain",
    "/api/path",
    "/api/map",
    "/api/genres",
    "/api/regions",
    "/api/report",
    "/api/status",
    "/media/{kind}/{id}",
    "/health",
    "/ready",
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    app = make_app(make_shelf(tmp_path_factory.mktemp("schema")), ServiceSettings())
    known = schemathesis.config.SchemathesisConfig.from_path(CONFIG)
    found = schemathesis.openapi.from_asgi("/openapi.json", app, config=known)
    # The run of this test hears and embeds nothing: 501 for every upload and description.
    return found.exclude(path="/api/sounds-like").exclude(path="/api/described")


def test_every_question_is_asked(asked):
    operations = [x.ok() for x in asked.get_all_operations()]
    assert sorted(x.path for x in operations) == sorted(PATHS)
    assert [x.path for x in operations if x.method == "post"] == POSTED[::-1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_reply_is_one_that_the_openapi_names(asked, path, mode):
    operation = asked[path]["POST" if path in POSTED else "GET"]
    bare = path not in POSTED and not list(operation.iter_parameters())
    if mode is GenerationMode.NEGATIVE and bare:
        return  # nothing can be wrong about it

    @settings(
        max_examples=14,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate()

    ask()
