import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import soundfile
from click.testing import CliRunner
from scipy import sparse

from adding_worlds import RATE, fresh, hearing_run, tagged
from planted import small_world
from undersong import features as inputs, runs
from undersong.cli.main import cli
from undersong.embeddings import unit
from undersong.errors import ArtifactError, DataError, UnknownItem
from undersong.features import read_sources
from undersong.foldin import add, added, drift, new_items
from undersong.importers.music.scan import Failure
from undersong.io.files import write_json
from undersong.models.content.network import artist_embedding
from undersong.ranking.context import RankingContext
from undersong.retrieval.run_index import attributes_of, open_index

WORLD = small_world()
QUIET = "a81"  # an artist without plays, so that a copy of it has all that is known of it


@pytest.fixture(scope="module")
def reading(reading_home):
    return runs.read(reading_home / "run")


@pytest.fixture(scope="module")
def hearing(hearing_home):
    return runs.read(hearing_home / "run")


@pytest.fixture
def beside(reading, tmp_path):
    return fresh(reading, tmp_path / "run")


@pytest.fixture
def hears(hearing, tmp_path):
    return fresh(hearing, tmp_path / "run")


def vector_of(track):
    features = WORLD.features[("descriptors", "track")]
    return tuple(float(x) for x in features.vectors[features.index[track]])


def copy_of(artist):
    """All that the catalogue knows of an artist and its tracks, under other ids."""
    row = WORLD.artists.row(by_predicate=pl.col("id") == artist, named=True)
    fields = {x: row[x] for x in ("genre", "country", "fame") if row[x] is not None}
    twin = new_items.NewItem("artist", "twin", "Twin", fields=fields)
    tracks = [
        new_items.NewItem(
            "track", f"twin-{k}", f"T {k}", "twin", "Twin", {}, vector_of(f"{artist}-{k}")
        )
        for k in (1, 0)  # the more popular first
    ]
    return [twin, *tracks]


def whats(outcomes):
    return [x if isinstance(x, Failure) else x.what for x in outcomes]


def first_neighbour(index, item):
    row = np.array([index.embeddings.index[item]])
    cosines = index.embeddings.vectors @ index.embeddings.vectors[row[0]]
    cosines[row] = -1
    return index.embeddings.ids[int(cosines.argmax())]


@pytest.mark.parametrize(
    ("kind", "old", "new"), [("artist", QUIET, "twin"), ("track", "a81-1", "twin-1")]
)
def test_a_copy_of_a_known_item_lands_where_it_is_and_both_are_first_neighbours(
    beside, kind, old, new
):
    assert whats(add.add(beside, copy_of(QUIET))) == ["added"] * 3
    index = open_index(beside.run, kind)
    vectors, place = index.embeddings.vectors, index.embeddings.index
    assert vectors[place[old]] @ vectors[place[new]] > 0.999
    assert first_neighbour(index, old) == new
    assert first_neighbour(index, new) == old


def test_evidence_of_an_added_item_is_that_of_its_copy_but_for_relations(beside):
    list(add.add(beside, copy_of(QUIET)))
    encoders = added.read_encoders(beside.run)
    known = {("artist", x): beside.run.embeddings("artist", x) for x in ("content", "interaction")}
    theirs = read_sources(WORLD, "artist", encoders, known)
    trained = beside.run.embeddings("artist", "general").align(WORLD.ids("artist"))[0]
    pairs = WORLD.pairs("artist")
    related = np.zeros((85, 85), dtype=bool)
    row = {item: at for at, item in enumerate(WORLD.ids("artist"))}
    for a, b in pairs.select("a", "b").iter_rows():
        related[row[a], row[b]] = related[row[b], row[a]] = True
    evidence = RankingContext(trained, theirs, sparse.csr_matrix(related))
    found = added.extend(beside.run, "artist", evidence)
    assert found.names == evidence.names
    assert found.vectors.shape == (86, 12)
    assert found.relations.shape == (86, 86)
    assert found.degree[-1] == 0
    assert found.degree[:-1].tolist() == evidence.degree.tolist()
    for one in found.sources:
        assert one.missing[-1] == one.missing[81]
        np.testing.assert_allclose(
            inputs.dense(one, np.array([85])), inputs.dense(one, np.array([81])), atol=1e-5
        )


def test_an_artist_is_the_mean_of_its_first_tracks(beside):
    tracks = [
        new_items.NewItem("track", f"n-{k}", f"N {k}", "n", "New", {}, vector_of(f"a0{k}-1"))
        for k in range(7)
    ]
    for one in tracks:  # one call each: the artist is embedded again with every track
        list(add.add(beside, [one]))
    rows = beside.run.added("track")
    heard = added.vectors(rows, "content").vectors
    assert len(heard) == 7
    expected, _ = artist_embedding(
        heard, np.zeros(7, dtype=np.int64), popularity=np.full(7, np.nan), top=5, artists=1
    )
    found = added.vectors(beside.run.added("artist"), "content").vectors
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, unit(found), atol=1e-6)


def test_the_same_again_changes_nothing_and_a_change_replaces(beside):
    one = new_items.of_words("New Band", {"genre": "g1", "country": "x"}, beside.known)
    assert whats(add.add(beside, [one])) == ["added"]
    place = runs.added_path(beside.run.folder, beside.run.generation)
    before = place.read_bytes()
    assert whats(add.add(beside, [one])) == ["unchanged"]
    assert place.read_bytes() == before
    other = new_items.of_words("New Band", {"genre": "g2"}, beside.known)
    first = beside.run.added("artist")["general"][0].to_list()
    assert whats(add.add(beside, [other])) == ["replaced"]
    assert len(beside.run.added("artist")) == 1
    assert beside.run.added("artist")["general"][0].to_list() != first
    trained = new_items.of_words("änderung", {"genre": "g2"}, beside.known)
    assert whats(add.add(beside, [trained])) == ["trained"]


def test_items_are_named_told_about_and_filtered(beside):
    list(
        add.add(beside, [new_items.of_words("Ñew", {"genre": "g1", "country": "x"}, beside.known)])
    )
    items = beside.run.items("artist")
    assert len(items) == 86
    assert items.row(-1, named=True) == {
        "id": "ñew", "name": "Ñew", "about": "g1, x", "part": None, "relations": 0,
        "popularity": None,
    }  # fmt: skip
    assert len(beside.run.trained_items("artist")) == 85
    index = open_index(beside.run, "artist")
    facts = attributes_of(beside.run, "artist", index.embeddings.ids)
    assert facts.table.row(-1, named=True)["genres"] == ["g1"]
    assert facts.table.row(-1, named=True)["region"] == "x"


def test_what_fails_is_named_and_the_others_are_added(beside):
    items = [
        new_items.NewItem("track", "t1", "Short", "a03", "Artist 03", {}, (1.0, 2.0)),
        new_items.NewItem("artist", "b1", "Bare"),
        new_items.NewItem("track", "t2", "Fine", "a03", "Artist 03", {}, vector_of("a03-0")),
    ]
    short, bare, fine = add.add(beside, items)
    assert (short.file, short.reason) == ("t1", "its vector has 2 numbers")
    assert short.remedy.startswith("give 7, as in the features 'descriptors'")
    assert bare == Failure("b1", "nothing is known of it but its name", bare.remedy)
    assert (fine.what, fine.id) == ("added", "t2")
    assert beside.run.added("artist")["id"].to_list() == []


def test_removing_an_artist_takes_its_tracks_along(beside):
    list(add.add(beside, copy_of(QUIET)))
    with pytest.raises(UnknownItem, match="'twn' was not added to .*; did you mean 'twin'?"):
        add.remove(beside, ["twn"])
    assert add.remove(beside, ["twin-1"]) == 1
    assert add.remove(beside, ["twin"]) == 2
    assert len(add.listed(beside.run)) == 0


def test_an_artist_that_came_with_a_track_goes_with_it(beside):
    one = new_items.NewItem("track", "n-1", "N", "n", "New", {}, vector_of("a05-1"))
    assert [x.id for x in add.add(beside, [one])] == ["n", "n-1"]
    assert add.remove(beside, ["n-1"]) == 2


def test_after_a_training_the_catalogue_wins_and_the_rest_is_added_again(beside, tmp_path):
    known = new_items.NewItem("artist", "later", "Later", fields={"genre": "g3"})
    list(add.add(beside, [*copy_of(QUIET), known]))
    folder = beside.run.folder
    shutil.copytree(folder / "generations/1", folder / "generations/2")
    write_json(folder / "current.json", {"format": 1, "generation": "2"})
    new = type(beside)(runs.read(folder))
    assert len(new.run.items("artist")) == 85
    assert "4 items were added to generation 1" in add.due(new.run)[0]
    new.trained["artist"] |= {"later"}  # as if the catalogue had it now
    assert sorted(whats(add.readd(new))) == ["added", "added", "added", "trained"]
    assert set(add.listed(new.run)["id"]) == {"twin", "twin-0", "twin-1"}
    assert runs.added_generations(folder) == ("2",)


def like_held_out(run, generator, count, *, shift):
    """Tracks as the planted world makes them, or far from all of it."""
    features = WORLD.features[("descriptors", "track")].vectors
    rows = generator.integers(len(features), size=count)
    vectors = features[rows] + 0.5 * generator.normal(size=(count, 7))
    vectors = shift * generator.choice([-1, 1], size=(count, 7)) if shift else vectors
    return [
        new_items.NewItem("track", f"d{k}", f"D {k}", "a03", "Artist 03", {}, tuple(map(float, x)))
        for k, x in enumerate(vectors)
    ]


def test_drift_of_sound_is_reported_where_there_is_some_and_not_where_there_is_none(
    reading, tmp_path
):
    generator = np.random.default_rng(3)
    usual = fresh(reading, tmp_path / "usual")
    list(add.add(usual, like_held_out(usual.run, generator, 16, shift=0)))
    assert add.due(usual.run) == ()
    strange = fresh(reading, tmp_path / "strange")
    list(add.add(strange, like_held_out(strange.run, generator, 16, shift=40)))
    (reason,) = add.due(strange.run)
    assert reason.startswith("the added tracks sound unlike what was learned from: median cosine")


def rows_of(kind, count, **columns):
    table = {x: [None] * count for x in runs.ADDED_COLUMNS} | {"kind": [kind] * count} | columns
    return pl.DataFrame(table, schema=runs.ADDED_COLUMNS)


@pytest.mark.parametrize(
    ("said", "unseen", "trained", "found"),
    [
        (40, 3, 900, ()),
        (40, 12, 900, ("12 of 40 words and numbers of the added artists are new",)),
        (2, 1, 900, ()),
        (40, 3, 30, ("4 of 34 artists were added after training, more than 10%",)),
    ],
)
def test_unseen_words_and_a_large_share_are_reported(said, unseen, trained, found):
    rows = rows_of("artist", 4, said=[said, 0, 0, 0], unseen=[unseen, 0, 0, 0])
    manifest = {"held_out": {"artist": {"nearest": [], "said": 200, "unseen": 10}}}
    reasons = drift.warnings(rows, manifest, trained={"artist": trained, "track": 7})
    assert len(reasons) == len(found)
    assert all(x.startswith(y) for x, y in zip(reasons, found, strict=True))


def test_the_sound_test_gives_few_false_alarms():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        known, new = generator.beta(5, 2, 150), generator.beta(5, 2, 25)
        manifest = {"held_out": {"track": {"nearest": list(known), "said": 0, "unseen": 0}}}
        rows = rows_of("track", 25, nearest=new, said=[0] * 25, unseen=[0] * 25)
        alarms += len(drift.warnings(rows, manifest, trained={"track": 1000}))
    assert alarms <= 9


def test_nearest_cosine_equals_the_slow_loop(monkeypatch):
    monkeypatch.setattr(drift, "BLOCK", 4)
    generator = np.random.default_rng(1)
    a, b = (unit(generator.normal(size=(n, 5)).astype(np.float32)) for n in (9, 13))
    slow = [max(float(x @ y) for y in b) for x in a]
    np.testing.assert_allclose(drift.nearest_cosine(a, b), slow, atol=1e-6)
    assert np.isnan(drift.nearest_cosine(a, b[:0])).all()


CHILD = """
import sys
from pathlib import Path
import polars as pl
from undersong import runs
folder, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    with runs.changing_added(folder):
        rows = runs.read_added(folder, "1")
        row = dict.fromkeys(runs.ADDED_COLUMNS) | {"id": name, "said": number}
        new = pl.DataFrame([row], schema=runs.ADDED_COLUMNS)
        runs.write_added(folder, "1", pl.concat([rows, new]))
"""


def child(folder, name, count):
    words = [sys.executable, "-c", CHILD, str(folder), name, str(count)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_killed_at_any_moment_it_leaves_whole_rows_and_no_lock(tmp_path):
    generator = np.random.default_rng(5)
    for turn in range(3):
        process = child(tmp_path, f"k{turn}", 10**6)
        time.sleep(0.05 + 0.3 * generator.random())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        rows = runs.read_added(tmp_path, "1").filter(pl.col("id") == f"k{turn}")
        assert rows["said"].to_list() == list(range(len(rows)))
    with runs.changing_added(tmp_path):
        assert len(runs.read_added(tmp_path, "1"))


def test_two_commands_at_once_lose_nothing(tmp_path):
    both = [child(tmp_path, name, 23) for name in ("one", "two")]
    assert [process.wait() for process in both] == [0, 0]
    for process in both:
        process.stdout.close()
    counts = runs.read_added(tmp_path, "1").group_by("id").len()
    assert dict(counts.rows()) == {"one": 23, "two": 23}


def test_a_damaged_file_of_added_items_is_refused(beside):
    list(add.add(beside, [new_items.of_words("New", {"genre": "g1"}, beside.known)]))
    place = runs.added_path(beside.run.folder, beside.run.generation)
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"1.parquet cannot be read .*; delete it and add"):
        beside.run.items("artist")


def test_a_table_of_new_items_may_be_as_a_spreadsheet_saves_it(beside, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("\ufeffsep=;\nname;genre;fame\n\u200bNova;g1;7\nLava;;\n", encoding="utf-8")
    nova, lava = new_items.of_table(path, "artist", beside.known)
    assert (nova.name, nova.fields) == ("Nova", {"genre": "g1", "fame": 7.0})
    assert (lava.name, lava.fields) == ("Lava", {})


@pytest.mark.parametrize("end", ["csv", "parquet", "toml", "CSV", "PARQUET", "TOML"])
def test_tables_of_each_kind_say_the_same(beside, tmp_path, end):
    path = tmp_path / f"new.{end}"
    if end.lower() == "toml":
        path.write_text('[[artist]]\nname = "Nova"\ngenre = "g1"\nfame = 7\n')
    else:
        table = pl.DataFrame({"name": ["Nova"], "genre": ["g1"], "fame": [7]})
        table.write_csv(path) if end.lower() == "csv" else table.write_parquet(path)
    (one,) = new_items.of_table(path, "artist", beside.known)
    assert (one.kind, one.id, one.name) == ("artist", "nova", "Nova")
    assert one.fields == {"genre": "g1", "fame": 7.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,gerne\nN,g1\n", r"artist 1: the run knows no field 'gerne'; did you mean 'genre'\?"),
        ("name,judge\nN,t1\n", "the run knows no field 'judge'"),
        ("name,fame\nN,loud\n", "artist 1: fame is 'loud', expected number"),
        ("genre\ng1\n", "artist 1 has neither a name nor an id"),
        ("name,vector\nN,1 x\n", "artist 1: vector is '1 x', expected numbers"),
    ],
)
def test_a_mistake_in_a_table_is_named(beside, tmp_path, text, message):
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list(new_items.of_table(tmp_path / "new.csv", "artist", beside.known))


def test_a_copy_of_a_trained_file_sounds_as_it_did(hears, hearing, tmp_path):
    song = tagged(tmp_path / "x.flac", 100, artist="Artist 05", title="Copy")
    sound, _ = soundfile.read(hearing.folder.parent / "music" / "a05-0.wav")
    soundfile.write(song.with_suffix(".wav"), sound, RATE)
    named = song.with_suffix(".wav").rename(tmp_path / "Artist 05 - Copy.wav")
    (one,) = new_items.of_files([named], hears.known)
    assert (one.id, one.artist) == ("a05/copy", "a05")
    assert whats(add.add(hears, [one])) == ["added"]
    for name in ("content", "general"):
        new = added.vectors(hears.run.added("track"), name).vectors[0]
        old = hears.run.embeddings("track", name)
        assert old.vectors[old.index["a05-0"]] @ new > 0.999
    index = open_index(hears.run, "track")
    assert first_neighbour(index, "a05-0") == "a05/copy"
    assert first_neighbour(index, "a05/copy") == "a05-0"


def test_a_file_and_a_vector_are_heard_side_by_side_and_the_file_alone_as_far_as_it_goes(tmp_path):
    learned = hearing_run(tmp_path, reads=True)
    both = fresh(learned, tmp_path / "fresh")
    path = tmp_path / "music" / "a05-0.wav"
    whole, heard = (
        new_items.NewItem("track", x, x, "a05", "Artist 05", {}, vector, path.with_name(f"{x}.wav"))
        for x, vector in (("whole", vector_of("a05-0")), ("heard", ()))
    )
    for item in (whole, heard):
        item.path.write_bytes(path.read_bytes())
    wrong = new_items.NewItem("track", "wrong", "W", "a05", "Artist 05", {}, (1.0, 2.0))
    (failure,) = (x for x in add.add(both, [whole, heard, wrong]) if isinstance(x, Failure))
    assert (failure.file, failure.reason) == ("wrong", "its vector has 2 numbers")
    assert whats(add.add(both, [whole, heard])) == ["unchanged"] * 2
    trained = learned.embeddings("track", "content")
    old, new = (
        trained.vectors[trained.index["a05-0"]],
        added.vectors(both.run.added("track"), "content"),
    )
    assert new.vectors[new.index["whole"]] @ old > 0.999
    assert new.vectors[new.index["heard"]] @ old == pytest.approx(0.5**0.5, abs=1e-3)


def test_tags_name_the_track_and_describe_a_new_artist(hears, tmp_path):
    mbid = "5b11f4ce-a62d-471e-81fc-a69a8278c7da"
    song = tagged(
        tmp_path / "s.flac", 7, artist="Neu", title="Hallo", genre="G1", date="1972",
        musicbrainz_trackid=mbid,
    )  # fmt: skip
    found = list(add.add(hears, new_items.of_files([song], hears.known)))
    assert [(x.kind, x.id, x.what) for x in found] == [
        ("artist", "neu", "added"), ("track", mbid, "added"),
    ]  # fmt: skip
    assert hears.run.added("artist")["about"].to_list() == ["g1"]
    assert whats(add.add(hears, new_items.of_files([song], hears.known))) == ["unchanged"]
    tagged(song, 8, artist="Neu", title="Other")
    assert whats(add.add(hears, new_items.of_files([song], hears.known))) == ["replaced"]
    assert hears.run.added("track")["id"].to_list() == ["neu/other"]


def test_a_broken_file_costs_one_line_and_exit_code_1(hears, tmp_path):
    good = tagged(tmp_path / "good.flac", 9, title="Good", artist="Neu", genre="g2")
    bad = tmp_path / "bad.mp3"
    bad.write_text("no music at all")
    silent = tmp_path / "Nobody - Silence.wav"
    soundfile.write(silent, np.zeros(5 * RATE), RATE)
    words = ["add", str(hears.run.folder), *map(str, (bad, good, silent))]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1, result.output
    assert [x.split(": ")[0] for x in result.stderr.splitlines()] == [str(bad), str(silent)]
    assert "silence in every part" in result.stderr
    assert "added      track   neu/good  Good  like " in result.stdout
    assert result.stdout.endswith(": 2 failed, 2 added\n")


def test_the_command_adds_lists_and_removes(beside):
    def call(*words):
        return CliRunner().invoke(cli, ["add", str(beside.run.folder), *words])

    words = ["--artist", "New Band", "--genre", "g1", "--country", "x", "--field", "fame=5"]
    assert "added      artist  new-band  New Band  like Artist " in call(*words).stdout
    assert "unchanged  artist  new-band" in call(*words).stdout
    assert "artist  new-band  New Band\n" in call("--list").stdout
    asked = CliRunner().invoke(cli, ["similar", str(beside.run.folder), "new band", "-k", "3"])
    assert asked.exit_code == 0
    assert "New Band (new-band): g1, x; no known link" in asked.stdout
    assert "1 items removed" in call("--remove", "new-band").stdout
    assert "nothing was added to generation 1 of" in call("--list").stdout
    strange = call("--artist", "New Band", "--genre", "G2")
    assert strange.exit_code == 1
    assert "new-band: no artist of the run has genre 'G2'; did you mean 'g2'?" in strange.stderr
    assert call().exit_code == 1
    assert "nothing to add" in call().output
    assert "is said of nobody; add --artist NAME" in call("--genre", "g1").output
    assert (
        "has no field of artists with the role 'year'"
        in call("--artist", "N", "--year", "1990").output
    )
