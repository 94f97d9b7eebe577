"""The commands on runs that were written by hand, without training."""

import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import small_world
from undersong import runs
from undersong.catalogue import attributes
from undersong.cli.main import cli
from undersong.embeddings import Embeddings, unit
from undersong.retrieval import precomputed
from undersong.retrieval.index import Index

WORLD = small_world()


def make_run(folder, *, seed=1, with_facts=True, with_lists=False):
    """A run of 85 artists, of whom the last has no embedding; by cosine."""
    vectors = np.random.default_rng(seed).normal(size=(84, 6)).astype(np.float32)
    embeddings = Embeddings(WORLD.ids("artist")[:84], unit(vectors))
    items = pl.DataFrame(
        {
            "kind": "artist",
            "id": WORLD.ids("artist"),
            "name": WORLD.names("artist"),
            "about": "",
            "part": "train",
            "relations": np.arange(85) % 4,
            "popularity": [float(x) for x in range(85)],
        }
    )
    with runs.publishing(folder, {"kind": "artist"}) as home:
        embeddings.write(home / "embeddings/artist.general.parquet")
        items.write_parquet(home / "items.parquet")
        if with_facts:
            attributes.write_attributes(
                home / attributes.ATTRIBUTES_FILE, attributes.make_attributes(WORLD)
            )
        if with_lists:
            precomputed.make_lists(Index(embeddings), home, kind="artist", length=13)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "run")
    make_run(folder / "other", seed=2)
    make_run(folder / "old", with_facts=False)
    make_run(folder / "listed", with_lists=True)
    return folder


def call(*words, code=0):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == code, result.output + result.stderr
    return result


def ids_of(result):
    return [json.loads(line)["item"] for line in result.stdout.splitlines()]


GENRE = dict(WORLD.artists.select("id", "genre").iter_rows())
COUNTRY = dict(WORLD.artists.select("id", "country").iter_rows())


@pytest.mark.parametrize("name", ["run", "listed"])
def test_filters_of_the_command_line_reach_the_answers(home, name):
    everybody = ids_of(call("similar", home / name, "a05", "-k", 10**9, "--json"))
    assert len(everybody) == 83
    found = ids_of(
        call("similar", home / name, "a05", "--genre", "g1", "--genre", "g2", "-k", 6, "--json")
    )
    assert found == [x for x in everybody if GENRE[x] in ("g1", "g2")][:6]
    found = ids_of(call("similar", home / name, "a05", "--region", "x", "-k", 99, "--json"))
    assert found == [x for x in everybody if COUNTRY[x] == "x"]
    found = ids_of(call("similar", home / name, "a05", "--max-popularity", 0.3, "--json"))
    assert set(found) < set(everybody)


def test_lists_of_ids_come_from_files(home, tmp_path):
    (tmp_path / "mine.txt").write_text("a01\na02\na03\nnobody\n")
    (tmp_path / "not.csv").write_text("id\na02\n")
    words = ["--library", tmp_path / "mine.txt", "--exclude", tmp_path / "not.csv"]
    found = ids_of(call("similar", home / "run", "a05", *words, "--json"))
    assert sorted(found) == ["a01", "a03"]
    call("neighbours", home / "run", *words, "-k", 4, "--out", tmp_path / "n.parquet")
    assert set(pl.read_parquet(tmp_path / "n.parquet")["neighbour"]) == {"a01", "a03"}


def test_a_window_that_leaves_nothing_is_an_empty_answer_that_says_why(home):
    window = ["--pop-begin", 0.5, "--pop-end", 0.5001]
    result = call("similar", home / "run", "a05", *window)
    assert "no item passes all filters (of 84 items" in result.stdout
    result = call("similar", home / "run", "a05", *window, "--json")
    assert result.stdout == ""
    assert "no item passes all filters" in result.stderr


def test_several_runs_agree(home):
    found = call("similar", home / "run", "a05", "--agree", home / "other", "-k", 3, "--json")
    assert len(ids_of(found)) == 3
    assert json.loads(found.stdout.splitlines()[0])["score"] < 2 / 60


@pytest.mark.parametrize("more", [[], ["--paper"], ["--agree", "other"]])
def test_several_items_are_asked_about_together(home, more):
    more = [home / x if x == "other" else x for x in more]
    result = call("similar", home / "run", "a05", "Artist 71", *more, "-k", 82, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 82 == len({x["item"] for x in lines} - {"a05", "a71"})
    assert [x["rank"] for x in lines] == list(range(1, 83))
    assert {frozenset(x["seeds"]) for x in lines} == {frozenset(["a05", "a71"])}
    shown = call("similar", home / "run", "a05", "Artist 71", *more, "-k", 3).stdout.splitlines()
    assert [x.split(":")[0] for x in shown[:2]] == ["Artist 05 (a05)", "Artist 71 (a71)"]
    assert all("  near Artist " in x for x in shown[2:])
    assert len(shown) == 5


def test_filters_hold_for_several_items(home):
    words = ("--genre", "g1", "--max-popularity", 0.5, "-k", 7, "--json")
    found = ids_of(call("similar", home / "run", "a05", "a71", *words))
    assert {GENRE[x] for x in found} == {"g1"}
    result = call("similar", home / "run", "a05", "nobody at all", code=1)
    assert result.stderr.startswith("Error: no item 'nobody at all' among 85")
    result = call("similar", home / "run", "a05", "a84", code=1)
    assert "nothing is known about 'a84' (a84) but its name" in result.stderr
    result = call("similar", home / "run", "a05", "a71", "--long-tail", 0.5, code=1)
    assert "long_tail is 0.5" in result.stderr


def test_of_one_item_no_seed_is_named(home):
    for more in ((), ("--agree", home / "other")):
        result = call("similar", home / "run", "a05", *more, "-k", 2, "--json")
        assert all("seeds" not in json.loads(line) for line in result.stdout.splitlines())


def test_an_empty_name_asks_for_one(home):
    for words in (["similar"], ["path", "a05"], ["similar", "a05"]):
        result = call(words[0], home / "run", *words[1:], " ", code=1)
        assert result.stderr == "Error: the name of an item is empty; give an id or a name\n"


def test_a_path_leads_from_one_to_the_other(home):
    result = call("path", home / "run", "Artist 05", "a71", "--json")
    found = ids_of(result)
    assert (found[0], found[-1]) == ("a05", "a71")
    assert len(set(found)) == len(found)
    shown = call("path", home / "run", "a05", "a71").stdout.splitlines()
    assert [line.split("(")[1].split(")")[0] for line in shown] == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["similar", "run", "Artst 05"], "no item 'Artst 05' among 85; did you mean"),
        (["similar", "run", "a05", "-k", "0"], "k is 0; it must be 1 or more"),
        (["similar", "run", "a05", "-k", "-1"], "k is -1; it must be 1 or more"),
        (["similar", "run", "a05", "--genre", "g7"], "the genre 'g7'; 5 are known, such as"),
        (["similar", "run", "a05", "--decade", "1990-1960"], "turn them round"),
        (["similar", "run", "a05", "--decade", "the 60s"], "'the 60s' is no decade; write 1970"),
        (["similar", "run", "a05", "--pop-begin", "0.9", "--pop-end", "0.2"], "nothing lies"),
        (
            ["similar", "run", "a05", "--paper", "--long-tail", "0.5"],
            "the paper ranks by plain cosine",
        ),
        (["similar", "old", "a05", "--region", "x"], "holds no facts of its items; train again"),
        (["similar", "run", "a84"], "nothing is known about 'a84' (a84) but its name"),
        (["path", "run", "a05", "Artist 99"], "no item 'Artist 99'"),
        (["similar", "run", "a05", "--library", "gone.txt"], "cannot be read as a list of ids"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line_and_exit_1(home, words, message):
    command, run, *rest = words
    result = call(command, home / run, *rest, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_without_facts_answers_without_filters(home):
    old, new = (call("similar", home / x, "a05", "-k", 3).stdout for x in ("old", "run"))
    assert old == new
    assert old.count("\n") == 4


def test_stored_answers_that_were_changed_are_refused(tmp_path):
    make_run(tmp_path / "run", with_lists=True)
    path = tmp_path / "run/generations/1/lists/artist.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    result = call("similar", tmp_path / "run", "a05", code=1)
    assert "was changed since it was published" in result.stderr
