import gc
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import undersong as us
from planted import QUICK_SETTINGS, small_world
from undersong.catalogue import read_catalogue, write_catalogue
from undersong.errors import ArtifactError, DataError, SettingsError, UnknownItem
from undersong.pipeline.run_settings import read_settings

HERE = Path(__file__).parent.parent
NAMES = [
    *("Catalogue", "Embeddings", "Model", "Neighbours", "Query", "Report", "RunSettings"),
    *("Settings", "evaluate", "import_tables", "load", "train"),
]


def frames():
    """The planted world as a notebook has it: frames of its own columns."""
    world = small_world()
    return {
        "artists": world.artists.drop("split").rename({"fame": "popularity"}),
        "tracks": world.tracks.select("id", "artist", "title"),
        "plays": world.played("artist").collect().rename({"item": "artist"}),
        "relations": world.relations.select("a", "b"),
        "features": {("descriptors", "track"): world.features["descriptors", "track"]},
        "withheld": {"judge"},
    }


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "quick.toml"
    path.write_text(QUICK_SETTINGS)
    return read_settings(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "mine"


@pytest.fixture(scope="module")
def model(folder, settings):
    return us.train(us.Catalogue(**frames()), folder, settings)


def test_twelve_names_are_listed_and_each_is_there():
    assert us.__all__ == NAMES
    assert {*NAMES, "__version__"} <= set(dir(us))
    assert [getattr(us, x).__name__ for x in NAMES] == NAMES
    with pytest.raises(AttributeError, match="module 'undersong' has no attribute 'fit'"):
        us.fit  # noqa: B018


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("import undersong", {"torch", "polars", "numpy"}),
        ("import undersong as us; us.Catalogue, us.Model, us.load, us.import_tables", {"torch"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(line, absent):
    code = f"import sys; {line}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert absent & set(done.stdout.split()) == set()


def test_three_lines_lead_from_frames_to_neighbours(model, folder):
    neighbours = model.similar("Artist 03", k=7)
    assert isinstance(neighbours, us.Neighbours)
    assert len(neighbours.ids) == 7
    assert (folder / "current.json").exists()
    written = read_catalogue(folder / "catalogue")
    assert [x.name for x in written.fields if x.withheld] == ["judge"]


def test_training_again_has_nothing_to_do_however_settings_are_written(model, folder):
    tables = tomllib.loads(QUICK_SETTINGS)
    again = us.train(us.Catalogue(**frames()), str(folder), tables)
    assert again.run.generation == model.run.generation == "1"
    assert us.load(folder).similar("a03", k=6).ids == model.similar("a03", k=6).ids


def test_without_a_folder_a_run_lives_as_long_as_its_model(settings, tmp_path, capsys):
    write_catalogue(us.Catalogue(**frames()), tmp_path)
    steps = []
    model = us.train(tmp_path, settings=settings, progress=lambda *x: steps.append(x[0]))
    home = model.run.folder
    assert home.is_dir()
    assert {"UiRM", "GRM"} <= set(steps)
    assert capsys.readouterr() == ("", "")
    del model
    gc.collect()
    assert not home.exists()


def test_progress_is_one_line_that_ends_empty(model, folder, settings, capsys):
    us.train(us.Catalogue(**frames()), folder, settings, progress=True)
    us.evaluate(model, progress=True)
    shown = capsys.readouterr().err
    assert "baseline network: 1 of 200" in shown
    assert "\n" not in shown
    assert {len(x) for x in shown.split("\r")} == {0, 60}
    assert shown.endswith(f"\r{'':60}\r")


def test_an_evaluation_is_a_table_in_every_form(model, folder):
    draw = np.random.default_rng(0)
    ids = us.Catalogue(**frames()).ids("artist")
    own = us.Embeddings(ids, draw.normal(size=(len(ids), 11)).astype(np.float32))
    report = us.evaluate(model, embeddings={"mine": own})
    table = report.frame()
    assert set(table["method"]) > {"random", "GRM", "mine", "tag kNN"}
    lead = table.filter(
        (pl.col("protocol") == "cold")
        & (pl.col("slice") == "all")
        & (pl.col("metric") == "ndcg@200")
    )
    by_method = {x["method"]: x for x in lead.iter_rows(named=True)}
    assert by_method["mine"]["low"] <= by_method["mine"]["value"] <= by_method["mine"]["high"]
    assert by_method["GRM"]["difference"] is None
    assert by_method["mine"]["difference"] == pytest.approx(
        by_method["mine"]["value"] - by_method["GRM"]["value"]
    )
    assert str(report).startswith("All links of ")
    assert "\n   mine " in str(report)
    assert repr(report) == str(report)
    whole = [x.slices[0] for x in report.results.protocols]
    judged = [x for x in whole if x.answerable and "mine" in x.numbers]  # not of one artist's songs
    assert report._repr_html_().count("<td>mine</td>") == len(judged) > 0
    assert not (folder / "report.json").exists()


def test_a_mapping_is_imported_into_memory(tmp_path):
    (tmp_path / "artists.csv").write_text("id,name\na,Ann\nb,Bob\n")
    mapping = tmp_path / "other" / "mapping.toml"
    mapping.parent.mkdir()
    mapping.write_text('[artists]\nfile = "artists.csv"\nname = "name"\n')
    assert us.import_tables(str(mapping), str(tmp_path)).names("artist") == ("Ann", "Bob")
    with pytest.raises(DataError, match="artists.csv: is no file"):
        us.import_tables(mapping)
    with pytest.raises(SettingsError, match="nothing.toml is missing; give the path of a TOML"):
        us.import_tables("nothing.toml")


def test_mistakes_are_one_sentence_each(model, folder, tmp_path):
    with pytest.raises(UnknownItem, match=r"no item 'Artist O3' among 85; did you mean 'Artist"):
        model.similar("Artist O3")
    with pytest.raises(ArtifactError, match="there is no folder .*min; did you mean 'mine'"):
        us.load(folder.with_name("min"))
    with pytest.raises(ArtifactError, match="this is a catalogue; learn from it with"):
        us.evaluate(folder / "catalogue")
    with pytest.raises(DataError, match="split is 'train'; known: validation, test"):
        us.evaluate(model, "train")
    strange = us.Embeddings(("x7",), np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match="embeddings 'mine' hold no artist of .*such as 'x7'; give"):
        us.evaluate(model, embeddings={"mine": strange})
    own = us.Embeddings(("a00",), np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match="embeddings 'GRM' have the name of another method"):
        us.evaluate(model, embeddings={"GRM": own})
    with pytest.raises(DataError, match="this catalogue was read from .*catalogue, where its"):
        us.train(read_catalogue(folder / "catalogue"), tmp_path)
    for wrong, message in (
        ({"general": {"widht": 32}}, r"settings: \[general\] has no 'widht'; did you mean 'width'"),
        ({"generel": {}}, "settings: no table 'generel'; did you mean 'general'"),
        ({"run": 3}, r"settings: \[run\] is 3, expected a table of settings"),
        ("none.toml", "none.toml is missing"),
    ):
        with pytest.raises(SettingsError, match=message):
            us.train(folder / "catalogue", tmp_path, wrong)
    with pytest.raises(ArtifactError, match="catalogue.json is missing; make the catalogue again"):
        us.train(tmp_path / "nothing", tmp_path / "run")


SCRIPT = """\
import numpy as np
import polars as pl
import undersong as us

artists = pl.DataFrame({"id": ["a", "b"], "genre": ["x", "y"]})
catalogue: us.Catalogue = us.Catalogue(artists=artists, relations=artists.lazy(), withheld={"y"})
settings = us.Settings(run=us.RunSettings(seed=1))
model: us.Model = us.train(catalogue, "runs/mine", settings, progress=True)
neighbours: us.Neighbours = model.similar(["a", "b"], k=3, genres={"x"})
model.similar("a", query=us.Query(k=2))
ids: tuple[str, ...] = neighbours.ids
own = us.Embeddings(("a",), np.ones((1, 3), np.float32))
report: us.Report = us.evaluate(us.load("runs/mine"), "test", embeddings={"own": own})
table: pl.DataFrame = report.frame()
us.import_tables("mapping.toml", data="tables")
"""


def test_a_typed_script_passes_a_strict_type_check(tmp_path):
    for name, text in (
        ("good", SCRIPT),
        ("bad", SCRIPT + "us.load(7)\nus.fit\nmodel.similar(3)\n"),
    ):
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"]
    # Both at a time: what they import is checked once.
    command += [str(tmp_path / x) for x in ("good.py", "bad.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    faults = [x for x in done.stdout.splitlines() if "error:" in x]
    assert len(faults) == 3, done.stdout + done.stderr
    assert all("bad.py:" in x for x in faults)
