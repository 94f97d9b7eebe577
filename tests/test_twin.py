import hashlib

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS
from undersong import relations, runs
from undersong.catalogue import check, splits, tables
from undersong.cli.main import cli
from undersong.errors import SettingsError
from undersong.lab.synthetic import twin
from undersong.pipeline import run_settings, train


@pytest.fixture(scope="module")
def paper_sized(tmp_path_factory):
    """As many artists, tracks and relations as in the paper, with fewer plays."""
    folder = tmp_path_factory.mktemp("twin") / "catalogue"
    twin.make_twin(folder, plays=200_003, seed=3)
    return tables.read_catalogue(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "catalogue"
    twin.make_twin(folder, artists=811, tracks=2_203, plays=40_009, seed=5)
    return tables.read_catalogue(folder)


def without_relation(catalogue, kind):
    pairs = catalogue.pairs(kind)
    return len(catalogue.items(kind)) - pl.concat([pairs["a"], pairs["b"]]).n_unique()


def test_it_has_the_numbers_of_the_paper(paper_sized):
    assert (len(paper_sized.artists), len(paper_sized.tracks)) == (9_627, 61_584)
    assert len(paper_sized.pairs("artist")) == 65_574
    assert len(paper_sized.pairs("track")) == 82_880
    assert round(100 * without_relation(paper_sized, "artist") / 9_627, 2) == 36.97
    assert round(100 * without_relation(paper_sized, "track") / 61_584, 2) == 53.06
    assert paper_sized.count_plays() == 200_003
    assert twin.PLAYED == 6_800_000


def test_it_is_split_as_in_the_paper(paper_sized):
    parts = splits.split(paper_sized, "artist", splits.SplitSettings(), seed=0)
    # Linked and long-tail items are shared out apart, so rounding moves one or two.
    found = np.unique(parts, return_counts=True)[1]
    assert np.abs(found - [962, 7703, 962]).max() <= 2


def test_another_size_keeps_the_proportions(small):
    assert len(small.pairs("artist")) == round(811 * 65_574 / 9_627)
    assert len(small.pairs("track")) == round(2_203 * 82_880 / 61_584)
    assert without_relation(small, "artist") == round(0.3697 * 811)
    assert without_relation(small, "track") == round(0.5306 * 2_203)
    assert small.count_plays() == 40_009


def test_no_pair_stands_twice_and_none_holds_one_item_twice(small):
    for kind in ("artist", "track"):
        pairs = small.pairs(kind)
        assert (pairs["a"] < pairs["b"]).all()
        assert pairs.select("a", "b").is_unique().all()
    assert small.plays.collect().select("user", "item").is_unique().all()
    assert small.plays.collect()["plays"].min() == 1


def test_a_few_artists_have_most_listeners_as_in_real_listening(paper_sized):
    # HetRec 2011, 1,892 Last.fm users: 30 % of listeners are those of the first hundredth of
    # artists, and a third of all users know the best known.
    heard = relations.listeners(paper_sized, "artist")
    known = np.sort(heard.getnnz(axis=0))[::-1]
    assert 0.2 < known[:96].sum() / known.sum() < 0.4
    assert 0.15 < known[0] / heard.shape[0] < 0.4
    played = heard.getnnz(axis=1)
    assert 45 < played.mean() < 55
    assert 0.5 < np.median(played) / played.mean() < 0.75  # log-normal: e^-1/2 = .61


def test_the_little_known_are_most_of_the_long_tail(paper_sized):
    fame = paper_sized.artists["popularity"].to_numpy()
    linked = relations.known(paper_sized, "artist").getnnz(axis=1) > 0
    assert np.median(fame[linked]) > np.quantile(fame, 0.55)
    assert (~linked[fame > np.quantile(fame, 0.9)]).any()


def agreement(catalogue, pairs):
    """How often the two of a pair have one genre, and one region."""
    about = catalogue.artists.select("id", "genre", "region")
    both = pairs.join(about, left_on="a", right_on="id").join(
        about, left_on="b", right_on="id", suffix="_b"
    )
    return [(both[x] == both[f"{x}_b"]).mean() for x in ("genre", "region")]


def test_relations_plays_and_genres_follow_the_same_groups(paper_sized):
    genre, region = agreement(paper_sized, paper_sized.pairs("artist").select("a", "b"))
    assert genre > 0.8
    assert region > 0.4
    generator = np.random.default_rng(0)
    ids = paper_sized.artists["id"].to_numpy()
    chance = pl.DataFrame({x: generator.choice(ids, 20_000) for x in "ab"})
    assert max(agreement(paper_sized, chance)) < 0.15
    heard = relations.listeners(paper_sized, "artist")
    near = relations.shared_listeners(heard, threshold=2, top=3).tocoo()
    together = pl.DataFrame({"a": ids[near.row].tolist(), "b": ids[near.col].tolist()})
    assert agreement(paper_sized, together)[0] > 0.4


def test_descriptors_of_related_tracks_are_near(small):
    vectors, missing = small.features[("descriptors", "track")].align(small.ids("track"))
    assert not missing.any()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    related = relations.known(small, "track").tocoo()
    near = (unit[related.row] * unit[related.col]).sum(axis=1).mean()
    chance = (unit[:1100] * unit[-1100:]).sum(axis=1).mean()
    assert near > chance + 0.25


def test_the_order_of_rows_tells_nothing_of_the_groups(paper_sized):
    genre = paper_sized.artists["genre"].fill_null("")
    assert (genre[1:] == genre[:-1]).mean() < 0.1


def hashes(folder):
    files = sorted((folder / "tables-1").rglob("*.parquet"))
    return [hashlib.sha256(x.read_bytes()).hexdigest() for x in files]


def test_the_seed_decides_everything(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        twin.make_twin(tmp_path / name, artists=103, tracks=211, plays=1_019, seed=seed)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "again")
    pairs = zip(hashes(tmp_path / "one"), hashes(tmp_path / "other"), strict=True)
    assert all(a != b for a, b in pairs)


def test_blocks_are_joined_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(twin, "USERS_AT_ONCE", 7)
    monkeypatch.setattr(twin, "TRACKS_AT_ONCE", 30)
    reports = []
    twin.make_twin(
        tmp_path, artists=107, tracks=251, plays=1_021, progress=lambda *x: reports.append(x)
    )
    found = tables.read_catalogue(tmp_path)
    assert found.tracks["id"].is_sorted()
    assert found.plays.collect()["user"].is_sorted()
    assert found.count_plays() == 1_021
    assert found.features[("descriptors", "track")].ids == found.ids("track")
    assert reports[-1] == ("plays", 1_021, 1_021)
    assert len(reports) == -(-found.plays.collect()["user"].n_unique() // 7)


def test_heavy_users_are_given_as_many_artists_as_they_want(tmp_path):
    twin.make_twin(tmp_path, artists=101, tracks=0, plays=9_001)
    found = tables.read_catalogue(tmp_path)
    assert found.plays.collect().group_by("user").len()["len"].max() == 101 // 4
    assert found.count_plays() == 9_001
    assert len(found.tracks) == 0
    assert found.features == {}


def test_no_fault_is_found_in_it_and_a_model_learns_from_it(tmp_path):
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    twin.make_twin(tmp_path / "data", artists=149, tracks=307, plays=3_001)
    assert check.check_catalogue(tmp_path / "data") == ()
    settings = run_settings.read_settings(tmp_path / "quick.toml")
    train.train_run(tmp_path / "data", tmp_path / "run", settings=settings)
    assert len(runs.read(tmp_path / "run").embeddings("artist", "general").ids) == 149


@pytest.mark.parametrize("sizes", [(99, 200, 300), (120, 50, 300), (120, 0, 119)])
def test_sizes_out_of_range_are_refused(tmp_path, sizes):
    artists, tracks, plays = sizes
    with pytest.raises(SettingsError, match=rf"of {artists} artists, {tracks} tracks and {plays}"):
        twin.make_twin(tmp_path / "x", artists=artists, tracks=tracks, plays=plays)
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_it_made(tmp_path):
    words = ["--artists", "109", "--tracks", "113", "--plays", "1013", "--seed", "4"]
    done = CliRunner().invoke(cli, ["twin", str(tmp_path / "out"), *words])
    assert done.exit_code == 0, done.output
    assert "109 artists, 113 tracks, 1,013 plays" in done.output
    assert tables.read_catalogue(tmp_path / "out").count_plays() == 1_013
