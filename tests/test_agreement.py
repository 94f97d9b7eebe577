"""Several items, or several runs, by agreement: each answers for itself, and ranks are fused."""

import re

import numpy as np
import polars as pl
import pytest

from test_retrieval import facts_for, learned, plain, whole_order
from test_search import write_run
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import fusion, neighbours
from undersong.retrieval.index import Index
from undersong.retrieval.query import Query


def slow_agreement(index, seeds, *, k):
    """Answers and their scores by plain loops, with the seeds of each, highest rank first."""
    orders = {
        seed: [x for x in whole_order(index, seed) if x not in seeds][: max(k, 100)]
        for seed in seeds
    }
    ranks = {
        x: {seed: own.index(x) + 1 for seed, own in orders.items() if x in own}
        for x in dict.fromkeys(sum(orders.values(), []))
    }
    score = {x: sum(1 / (60 + r) for r in own.values()) for x, own in ranks.items()}
    best = sorted(score, key=lambda x: -round(score[x], 12))[:k]
    return best, [score[x] for x in best], [sorted(ranks[x], key=ranks[x].get) for x in best]


@pytest.mark.parametrize("make", [plain, learned])
@pytest.mark.parametrize("seeds", [(7,), (7, 3), (12, 50, 3, 41)])
@pytest.mark.parametrize("block", [2, 256])
def test_agreement_of_seeds_equals_the_slow_loop(monkeypatch, make, seeds, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    index = make()
    ids = [f"i{x}" for x in seeds]
    found = fusion.fuse([index], ids, query=Query(k=11))
    best, scores, led = slow_agreement(index, seeds, k=11)
    assert found.ids == tuple(f"i{x}" for x in best)
    assert found.scores.tolist() == pytest.approx(scores)
    assert found.seeds == tuple(tuple(f"i{x}" for x in own) for own in led)


def test_the_confidence_is_the_mean_of_the_lists_that_name_the_answer():
    index = learned()
    found = fusion.fuse([index], ["i12", "i40"], query=Query(k=8))
    others = frozenset(["i12", "i40"])
    rows = np.array([12, 40])
    block = next(neighbours.search(index, rows, query=Query(k=100, exclude=others)))
    for item, sure, led in zip(found.ids, found.confidence, found.seeds, strict=True):
        said = block.confidence[block.neighbours == index.embeddings.index[item]]
        assert len(said) == len(led)
        assert sure == pytest.approx(said.mean())


def two_worlds(size=150):
    """Two unlike groups with a seed each (1, 2), and one item (0) that is like both, not much."""
    generator = np.random.default_rng(8)
    vectors = np.zeros((2 * size + 3, 5), dtype=np.float32)
    vectors[0, :3] = 0.6, 0.6, 0.53
    vectors[1, 0] = vectors[2, 1] = 1
    for group in (0, 1):
        there = slice(3 + group * size, 3 + (group + 1) * size)
        vectors[there, group] = 1
        vectors[there, 3 + group] = generator.uniform(0.2, 4, size)
    return Index(Embeddings(tuple(f"i{x}" for x in range(len(vectors))), unit(vectors)))


def test_whom_two_unlike_seeds_both_name_stands_before_what_one_names_first():
    index = two_worlds()
    found = fusion.fuse([index], ["i1", "i2"], query=Query(k=7))
    assert found.ids[0] == "i0"
    for seed in (1, 2):
        assert 10 < whole_order(index, seed).index(0) < 62
    assert set(found.seeds[0]) == {"i1", "i2"}
    # The rest is as far down one list as down the other: they take turns, the first asked first.
    assert found.seeds[1:] == (("i1",), ("i2",)) * 3


def test_no_seed_is_an_answer_and_one_that_is_given_twice_counts_once():
    index = learned()
    seeds = [f"i{x}" for x in whole_order(index, 12)[:4]]
    found = fusion.fuse([index], ["i12", *seeds, "i12"], query=Query(k=999))
    assert not {"i12", *seeds} & set(found.ids)
    once = fusion.fuse([index], ["i12", *seeds], query=Query(k=999))
    assert found.ids == once.ids
    assert found.scores.tolist() == once.scores.tolist()


def test_the_order_of_seeds_decides_between_equals_alone():
    index = learned()
    one, other = (
        fusion.fuse([index], seeds, query=Query(k=20))
        for seeds in (["i12", "i50", "i3"], ["i3", "i12", "i50"])
    )
    assert one.scores.tolist() == pytest.approx(other.scores.tolist())


def test_caps_hold_over_all_lists_together_and_leave_k_answers():
    index, seeds = plain(n=461, seed=9), ["i7", "i3", "i450"]
    facts = facts_for(index)
    whole = fusion.fuse([index], seeds, query=Query(k=461), attributes=[facts])
    artist = dict(facts.table.select("id", "artist").iter_rows())
    request = Query(k=110, per_artist=2)
    found = fusion.fuse([index], seeds, query=request, attributes=[facts])
    shown = [artist[x] for x in found.ids]
    assert all(shown.count(x) <= 2 for x in shown if x)
    taken = []
    for item in whole.ids:
        if artist[item] is None or [artist[x] for x in taken].count(artist[item]) < 2:
            taken.append(item)
    assert len(found.ids) == min(110, len(taken))
    assert len(found.ids) > 90


def test_diversity_begins_with_the_best_and_spreads_the_rest():
    index = plain(n=461, seed=9)
    vectors = index.embeddings.vectors

    def crowding(diversity):
        request = Query(k=9, diversity=diversity)
        found = fusion.fuse([index], ["i7", "i3"], query=request)
        rows = [index.embeddings.index[x] for x in found.ids]
        assert len(set(rows)) == 9
        return found.ids[0], (vectors[rows] @ vectors[rows].T).sum()

    (first, near), (still, apart) = crowding(0.0), crowding(0.7)
    assert first == still
    assert apart < near


def test_filters_hold_for_every_seed_and_say_why_nothing_is_left():
    index = learned()
    facts = facts_for(index)
    request = Query(k=9, regions=frozenset(["NO"]), decade_from=1990)
    found = fusion.fuse([index], ["i7", "i3"], query=request, attributes=[facts])
    kept = facts.table.filter(pl.col("id").is_in(found.ids))
    assert set(kept["region"]) == {"NO"}
    assert kept["decade"].min() == 1990
    nobody = Query(k=9, library=frozenset(["stranger"]))
    found = fusion.fuse([index], ["i7", "i3"], query=nobody, attributes=[facts])
    assert found.ids == found.seeds == ()
    assert "library: 137 are left out" in found.note


def test_several_runs_fuse_reciprocal_ranks():
    one, two = plain(seed=3), plain(seed=4)
    ranks = [{x: r for r, x in enumerate(whole_order(y, 7), start=1)} for y in (one, two)]
    score = {x: sum(1 / (60 + r[x]) for r in ranks) for x in ranks[0]}
    found = fusion.fuse([one, two], ["i7"], query=Query(k=5))
    best = sorted(score, key=lambda x: (-score[x], ranks[0][x]))[:5]
    assert found.ids == tuple(f"i{x}" for x in best)
    assert found.scores.tolist() == pytest.approx([score[x] for x in best])
    assert found.seeds == (("i7",),) * 5
    assert np.isnan(found.confidence).all()


def test_one_run_agrees_with_itself():
    index = learned()
    found = fusion.fuse([index], ["i12"], query=Query(k=6))
    block = next(neighbours.search(index, np.array([12]), query=Query(k=6)))
    assert found.ids == tuple(f"i{x}" for x in block.neighbours[0])
    assert found.confidence.tolist() == pytest.approx(block.confidence[0].tolist())


def test_what_the_first_run_does_not_know_is_no_answer():
    small, large = plain(n=31), plain(n=61, seed=4)
    found = fusion.fuse([small, large], ["i7", "i3"], query=Query(k=99))
    assert sorted(found.ids) == sorted(f"i{x}" for x in range(31) if x not in (7, 3))


def test_a_run_that_does_not_know_the_item_is_named():
    with pytest.raises(DataError, match="run 2 of 2 has nothing about 'i60'"):
        fusion.fuse([plain(), plain(n=31)], ["i3", "i60"], query=Query())


ITEMS = pl.DataFrame(
    {
        "id": [f"i{x}" for x in range(62)],
        "name": ["Air", "France", "Air France", *(f"Artist {x}" for x in range(3, 62))],
        "about": "",
        "relations": 1,
        "popularity": 0.5,
    }
)


def test_whom_an_answer_is_near_to_is_said_by_name_and_not_without_end(tmp_path):
    queries = ["Air", "France", *(f"artist {x}" for x in range(3, 9))]
    neighbours = write_run(tmp_path, plain(n=61).embeddings, ITEMS).similar(queries, k=4)
    lines = str(neighbours).splitlines()
    assert [x.split(" (")[0] for x in lines[:8]] == ["Air", "France", *ITEMS["name"][3:9]]
    named = dict(ITEMS.select("id", "name").iter_rows())
    for line, neighbour in zip(lines[8:], neighbours, strict=True):
        assert len(neighbour.seeds) == 8
        assert neighbours.near(neighbour) == [named[x] for x in neighbour.seeds]
        near = ", ".join(named[x] for x in neighbour.seeds[:3])
        assert re.search(rf"near {near} and 5 more$", line)


def test_a_name_without_quotes_is_noticed(tmp_path):
    model = write_run(tmp_path, plain(n=61).embeddings, ITEMS)
    with pytest.raises(UnknownItem, match=r"no item 'Artist' .* Or is it 'Artist 7'\? Put"):
        model.similar(["Artist", "7"])
    with pytest.raises(UnknownItem, match=r"no item 'Nobody' among 62; no name is like it$"):
        model.similar(["Nobody", "Air"])
    with pytest.raises(DataError, match=r"nothing is known about 'Artist 61' \(i61\) but its"):
        model.similar(["Air", "Artist 61"])
