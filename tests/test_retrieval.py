import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from random_evidence import LOOSE, UNKNOWN, N, random_evidence, random_network, ranker_of
from undersong.catalogue.attributes import Attributes
from undersong.embeddings import Embeddings, unit
from undersong.errors import ArtifactError, DataError
from undersong.ranking.ranker import scorer
from undersong.retrieval import filters, neighbours, precomputed
from undersong.retrieval.index import Index, TopK, by_cosine
from undersong.retrieval.neighbours import search, write_neighbours
from undersong.retrieval.query import Query


def learned(*, seed=2):
    """An index of 137 items with a learned order of random weights."""
    evidence = random_evidence()
    ids = tuple(f"i{x}" for x in range(N))
    ranker = ranker_of(random_network(evidence, seed=seed), evidence)
    return Index(Embeddings(ids, evidence.vectors), ranker, evidence)


def plain(n=61, width=7, seed=3):
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return Index(Embeddings(tuple(f"i{x}" for x in range(n)), unit(vectors)))


def facts_for(index, seed=5):
    """Random facts, some of them not known."""
    ids, generator = index.embeddings.ids, np.random.default_rng(seed)
    n = len(ids)

    def some(values):
        return [
            None if generator.random() < 0.2 else values[int(generator.integers(len(values)))]
            for _ in ids
        ]

    return Attributes(
        pl.DataFrame(
            {
                "id": ids,
                "genres": [
                    [g for g in ("jazz", "rock", "soul") if generator.random() < 0.4] for _ in ids
                ],
                "region": some(["NO", "SE", "FI", "DK"]),
                "decade": some([1960, 1970, 1980, 1990, 2000]),
                "percentile": [float(x) for x in generator.permutation(n) / n],
                "artist": some([f"artist {x}" for x in range(9)]),
                "album": some([f"album {x}" for x in range(23)]),
            },
            schema_overrides={"decade": pl.Int32},
        )
    )


def ask(index, rows, request, facts=None):
    found = list(search(index, np.array(rows), query=request, attributes=facts))
    return [[x for x in row if x >= 0] for block in found for row in block.neighbours.tolist()]


def whole_order(index, row):
    """Every other item in the order of one query, by plain loops over the scores of all."""
    if index.ranker is None:
        scores = index.embeddings.vectors @ index.embeddings.vectors[row]
    else:
        everyone = np.arange(len(index.embeddings.ids))
        scores = scorer(index.ranker, index.evidence, pool=everyone)(np.array([row]))[0]
    others = [x for x in range(len(scores)) if x != row and np.isfinite(scores[x])]
    return sorted(others, key=lambda x: (-scores[x], x))


REQUESTS = [
    Query(k=9, genres=frozenset(["jazz"])),
    Query(k=4, genres=frozenset(["jazz", "soul"])),
    Query(k=5, genres=frozenset(["jazz", "soul"]), all_genres=True),
    Query(k=6, regions=frozenset(["NO", "FI"])),
    Query(k=7, decade_from=1970, decade_to=1980),
    Query(k=8, decade_from=1994),
    Query(k=11, library=frozenset(f"i{x}" for x in range(0, 60, 4)) | {"nobody"}),
    Query(k=12, exclude=frozenset(f"i{x}" for x in range(40))),
    Query(k=13, max_popularity=0.3),
    Query(k=14, pop_begin=0.4, pop_end=0.7),
    Query(k=10**9, regions=frozenset(["DK"]), max_popularity=0.6),
]


def passes(request, row):
    """Read a request the slow way, for one row of facts."""
    decade, share = row["decade"], row["percentile"]
    has = [x in row["genres"] for x in request.genres]
    return (
        (not has or (all(has) if request.all_genres else any(has)))
        and (not request.regions or row["region"] in request.regions)
        and (
            request.decade_from is None
            or (decade is not None and decade >= request.decade_from // 10 * 10)
        )
        and (request.decade_to is None or (decade is not None and decade <= request.decade_to))
        and request.pop_begin <= share <= min(request.pop_end, request.max_popularity)
        and (request.library is None or row["id"] in request.library)
        and row["id"] not in request.exclude
    )


@pytest.mark.parametrize("request_", REQUESTS)
def test_filters_strike_out_of_the_order_by_cosine(request_):
    index = plain()
    facts = facts_for(index)
    rows = facts.table.rows(named=True)
    for query in (0, 8, 33):
        wanted = [x for x in whole_order(index, query) if passes(request_, rows[x])]
        assert ask(index, [query], request_, facts)[0] == wanted[: request_.k]
    assert 0 < len(wanted) < 61


def test_only_unlinked_items_are_answers_where_that_is_wished():
    index = learned()
    free = index.evidence.degree == 0
    (answers,) = ask(index, [50], Query(k=N, only_unlinked=True))
    assert set(answers) == set(np.flatnonzero(free & index.evidence.known)) - {50}
    (whole,) = ask(index, [50], Query(k=N))
    near = [x for x in whole[: index.ranker.candidates] if free[x]]
    assert answers[: len(near)] == near
    with pytest.raises(DataError, match="does not keep who is linked"):
        ask(plain(), [8], Query(only_unlinked=True))


@pytest.mark.parametrize("request_", REQUESTS)
def test_filters_strike_out_of_the_learned_order(request_):
    index = learned()
    facts = facts_for(index)
    rows = facts.table.rows(named=True)
    queries = [3, 50, 100]
    for query, found in zip(queries, ask(index, queries, request_, facts), strict=True):
        allowed = {x for x in range(N) if x not in (query, UNKNOWN) and passes(request_, rows[x])}
        given = [x for x in found if x >= 0]
        likeliest = [
            x for x in whole_order(index, query)[: index.ranker.candidates] if x in allowed
        ]
        both = min(len(likeliest), request_.k)
        assert given[:both] == likeliest[:both]  # the order of the likeliest is that of everybody
        assert len(given) == min(request_.k, len(allowed))  # and then come the others
        assert set(given) <= allowed


def test_without_filters_the_order_is_the_one_that_is_judged():
    index = learned()
    for query in (3, 50, 100):
        assert ask(index, [query], Query(k=10**9))[0] == whole_order(index, query)


def test_a_closed_pool_answers_in_the_order_that_is_judged_there(tmp_path):
    index, pool = learned(), np.arange(3, N, 4)
    precomputed.make_lists(index, tmp_path, kind="artist", length=11)
    stored = replace(index, lists=precomputed.read(tmp_path / precomputed.file_of("artist"), n=N))
    ids = frozenset(index.embeddings.ids[x] for x in pool)
    scores = scorer(index.ranker, index.evidence, pool=pool)(np.arange(29))
    wanted = []
    for row in range(29):
        known = [x for x in pool if x != row and np.isfinite(scores[row, x])]
        wanted.append(sorted(known, key=lambda x, row=row: (-scores[row, x], x)))
    assert ask(stored, range(29), Query(k=N, library=ids, closed=True)) == wanted
    assert ask(stored, range(29), Query(k=N, library=ids)) != wanted


def test_more_answers_begin_with_the_fewer():
    index = learned()
    few, many = (ask(index, [12], Query(k=k))[0] for k in (5, 90))
    assert many[:5] == few
    assert len(set(many)) == 90


def test_scores_and_confidence_never_rise_down_the_list():
    index = learned()
    found = next(search(index, np.array([12, 90]), query=Query(k=N)))
    given = found.neighbours >= 0
    assert (np.diff(found.scores, axis=1)[given[:, 1:]] <= 0).all()
    assert (found.confidence[given] <= 1).all()
    beyond = found.confidence[:, index.ranker.candidates :]
    assert (np.diff(beyond, axis=1)[given[:, index.ranker.candidates + 1 :]] <= 0).all()


def test_stored_lists_answer_as_the_search_does(tmp_path, monkeypatch):
    monkeypatch.setattr(precomputed, "COST", -2.0)  # nobody makes room
    searched = learned()
    seen = []
    made = precomputed.make_lists(
        searched, tmp_path, kind="artist", length=19, progress=lambda *x: seen.append(x[1:3])
    )
    stored = replace(searched, lists=precomputed.read(tmp_path / "lists/artist.npy", n=N))
    assert (made.items, made.length, seen[-1]) == (N, 19, (N, N))
    assert made.unreached == made.unreached_before > 0
    facts, rows = facts_for(searched), list(range(N))
    for request in (Query(k=3), Query(k=19), Query(k=77), *REQUESTS):
        assert ask(searched, rows, request, facts) == ask(stored, rows, request, facts)


def test_the_table_of_neighbours_is_asked_cell_by_cell_and_stands_in_its_own_order(
    tmp_path, monkeypatch
):
    for name, value in {"SMALL": 50, "SIZE": 8, "LOOKED": 40}.items():
        monkeypatch.setattr(f"undersong.ranking.cells.{name}", value)
    monkeypatch.setattr("undersong.retrieval.neighbours.BLOCK", 5)
    index, queries, asked = learned(), np.arange(N)[::-1][:91], []

    def recording(index, rows, **options):
        asked.extend(rows)
        return search(index, rows, **options)

    out, query = tmp_path / "n.parquet", Query(k=9)
    assert write_neighbours(index, out, queries=queries, query=query, search=recording)[1] == ""
    cells = index.evidence.cells.cells_of(np.array(asked))
    assert sorted(asked) == sorted(queries)
    assert np.count_nonzero(np.diff(cells)) == len(set(cells)) - 1 > 9
    wanted = [
        (f"i{row}", rank, f"i{neighbour}")
        for block in search(index, queries, query=query)
        for row, own in zip(block.rows, block.neighbours, strict=True)
        for rank, neighbour in enumerate(own[own >= 0], 1)
    ]
    table = pl.read_parquet(out)
    assert table.select("item", "rank", "neighbour").rows() == wanted
    assert table["confidence"].is_between(0, 1).all()


def test_hub_control_of_stored_lists_moves_one_place_and_loses_no_answer(tmp_path):
    searched = learned(seed=6)  # an order that leaves some items in no list
    made = precomputed.make_lists(searched, tmp_path, kind="artist", length=19)
    stored = replace(searched, lists=precomputed.read(tmp_path / "lists/artist.npy", n=N))
    assert made.unreached < made.unreached_before
    for request in (Query(k=19), Query(k=77)):
        pairs = zip(ask(searched, range(N), request), ask(stored, range(N), request), strict=True)
        for one, other in pairs:
            assert sorted(one) == sorted(other)
            assert [one[:9], one[19:]] == [other[:9], other[19:]]


def test_lists_are_no_longer_than_what_the_learned_order_weighs(tmp_path):
    assert precomputed.make_lists(learned(), tmp_path, kind="artist", length=40).length == 23
    with pytest.raises(DataError, match="length is 0; keep 1 answer"):
        precomputed.make_lists(learned(), tmp_path, kind="artist", length=0)


def test_stored_lists_without_hub_control_give_exactly_the_search(tmp_path):
    searched = plain()  # a cosine is no chance, so nothing is raised
    precomputed.make_lists(searched, tmp_path, kind="track", length=29)
    stored = replace(searched, lists=precomputed.read(tmp_path / "lists/track.npy", n=61))
    facts = facts_for(searched)
    for request in (Query(k=3), Query(k=29), Query(k=60), *REQUESTS):
        assert ask(searched, range(61), request, facts) == ask(stored, range(61), request, facts)


def test_the_dial_and_the_paper_are_never_looked_up(tmp_path):
    searched = learned()
    precomputed.make_lists(searched, tmp_path, kind="artist", length=31)
    stored = replace(searched, lists=precomputed.read(tmp_path / "lists/artist.npy", n=N))
    for request in (Query(k=6, long_tail=1.0), Query(k=6, paper=True)):
        assert ask(searched, [5, 40], request) == ask(stored, [5, 40], request)
    assert ask(stored, [5], Query(k=6, paper=True)) != ask(stored, [5], Query(k=6))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "is no file of answers"),
        (lambda p: p.write_bytes(p.read_bytes()[:400]), "is no file of answers"),
        (lambda p: p.write_bytes(b"\x80\x04\x95\x00."), "is no file of answers"),
        (lambda p: np.save(p, np.array([{"a": 1}]), allow_pickle=True), "is no file of answers"),
        (lambda p: np.save(p, np.zeros((61, 3))), "holds other records than"),
        (
            lambda p: np.save(p, np.zeros((7, 3), precomputed.RECORD)),
            "is of 7 items, the run of 61",
        ),
        (lambda p: np.save(p, np.full((61, 3), 99, precomputed.RECORD)), "is of 61 items"),
    ],
)
def test_a_damaged_or_foreign_file_of_lists_is_refused(tmp_path, damage, message):
    precomputed.make_lists(plain(), tmp_path, kind="artist", length=5)
    path = tmp_path / "lists/artist.npy"
    damage(path)
    with pytest.raises(ArtifactError, match=message):
        precomputed.read(path, n=61)


def test_hub_control_gives_a_forgotten_item_the_cheapest_tenth_place():
    rows = np.array(
        [[*range(1, 13)]] + [[x for x in range(13) if x != q][:12] for q in range(1, 13)], np.int32
    )
    confidence = np.tile(np.linspace(0.6, 0.05, 12, dtype=np.float32), (13, 1))
    confidence[4, 10:] = confidence[4, 9] - 0.01  # one list in which the tenth is hardly likelier
    raised = precomputed.raise_unreached(rows, confidence)
    assert raised.unreached < raised.unreached_before
    moved = np.flatnonzero((raised.places != np.arange(12)).any(axis=1))
    assert 4 in moved
    for query in moved:
        assert sorted(raised.places[query]) == list(range(12))
        assert raised.places[query, :9].tolist() == list(range(9))


def test_the_cost_of_a_tenth_place_is_the_dcg_that_is_lost():
    confidence = np.random.default_rng(8).random((3, 14)).astype(np.float32)
    cost = precomputed._expected_loss(confidence)
    assert cost.shape == (3, 4)
    for row in range(3):
        for place in range(10, 14):
            turn = [*range(9), place, *range(9, place), *range(place + 1, 14)]
            before, after = (
                sum(confidence[row, x] / math.log2(at + 2) for at, x in enumerate(order))
                for order in (range(14), turn)
            )
            assert cost[row, place - 10] == pytest.approx(before - after, abs=1e-6)


def test_hub_control_never_takes_the_place_of_a_known_relation():
    rows = np.array([[x for x in range(12) if x != q] for q in range(12)], np.int32)
    sure = np.full((12, 11), 1.0, np.float32)
    sure[:, 10:] = 0.5
    assert (precomputed.raise_unreached(rows, sure).places == np.arange(11)).all()
    assert (
        precomputed.raise_unreached(rows, np.full_like(sure, np.nan)).places == np.arange(11)
    ).all()


@pytest.mark.parametrize("most", [1, 2])
def test_no_artist_or_album_has_more_answers_than_allowed(most):
    index = plain()
    facts = facts_for(index)
    capped = Query(k=15, per_artist=most + 1, per_album=most)
    found = ask(index, [4], capped, facts)[0]
    expected, artists, albums = [], [], []
    for x in whole_order(index, 4):
        artist, album = facts.table["artist"][x], facts.table["album"][x]
        fits = artist is None or artists.count(artist) <= most
        artists.append(artist)
        if fits and (album is None or albums.count(album) < most):
            expected.append(x)
            albums.append(album)
        elif fits:
            albums.append(album)
    assert found == expected[:15]


def test_caps_look_as_far_as_they_need_to():
    index = plain()
    facts = Attributes(facts_for(index).table.with_columns(pl.lit("one").alias("artist")))
    assert ask(index, [4], Query(k=15, per_artist=3), facts)[0] == whole_order(index, 4)[:3]


def slow_mmr(vectors, listed, k, diversity):
    """Carbonell and Goldstein, one answer at a time."""
    chosen, left = [listed[0]], list(listed[1:])
    while left and len(chosen) < k:
        value = [
            (1 - diversity) * (1 - listed.index(x) / len(listed))
            - diversity * max(float(vectors[x] @ vectors[y]) for y in chosen)
            for x in left
        ]
        chosen.append(left.pop(int(np.argmax(value))))
    return chosen


@pytest.mark.parametrize("diversity", [0.3, 0.8, 1.0])
def test_diversity_is_maximal_marginal_relevance(diversity):
    index = plain()
    listed = whole_order(index, 9)[: filters.reach(Query(k=6, diversity=diversity))]
    found = ask(index, [9], Query(k=6, diversity=diversity))[0]
    assert found == slow_mmr(index.embeddings.vectors, listed, 6, diversity)
    assert found[0] == listed[0]


def test_more_diversity_lies_further_apart():
    index, mean = plain(), []
    for diversity in (0, 0.5, 1):
        chosen = index.embeddings.vectors[ask(index, [9], Query(k=8, diversity=diversity))[0]]
        mean.append(float((chosen @ chosen.T)[np.triu_indices(8, 1)].mean()))
    assert mean[0] > mean[1] > mean[2]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"k": 0}, "k is 0; it must be 1 or more"),
        ({"k": -1}, "k is -1; it must be 1"),
        ({"decade_from": 1990, "decade_to": 1960}, "first decade is 1990, the last is 1960; turn"),
        ({"pop_begin": 0.8, "pop_end": 0.2}, "pop_begin is 0.8, but the window ends at 0.2"),
        ({"pop_begin": 0.8, "max_popularity": 0.3}, "the window ends at 0.3"),
        ({"pop_end": 50.0}, "pop_end is 50; it lies between 0 and 1"),
        ({"diversity": -0.1}, "diversity is -0.1; it lies between 0 and 1"),
        ({"long_tail": math.nan}, "long_tail is nan; it lies between -1 and 1"),
        ({"per_artist": 0}, "per_artist is 0; allow 1 or more"),
        ({"library": frozenset("ab"), "exclude": frozenset("abc")}, "all 2 ids of the library are"),
        ({"library": frozenset()}, "the library holds no id"),
        ({"paper": True, "long_tail": 0.5}, "leave long_tail or paper out"),
    ],
)
def test_wishes_that_nothing_can_fulfil_are_refused(wishes, message):
    with pytest.raises(DataError, match=message):
        Query(**wishes)


def test_a_word_that_no_item_has_is_refused_with_the_nearest():
    index = plain()
    facts = facts_for(index)
    with pytest.raises(DataError, match="no item has the genre 'jaz'; did you mean 'jazz'"):
        ask(index, [1], Query(genres=frozenset(["jaz", "rock"])), facts)
    with pytest.raises(DataError, match="no item has the region 'Q'; 4 are known, such as 'DK'"):
        ask(index, [1], Query(regions=frozenset("Q")), facts)
    bare = Attributes(facts.table.with_columns(pl.lit(None, pl.String).alias("region")))
    with pytest.raises(DataError, match="no region is known of any item"):
        ask(index, [1], Query(regions=frozenset(["NO"])), bare)


def test_a_run_without_facts_answers_all_but_filters_on_them():
    index = plain()
    with pytest.raises(ArtifactError, match="holds no facts of its items; train again"):
        ask(index, [1], Query(max_popularity=0.5))
    assert ask(index, [1], Query(k=2, exclude=frozenset(["i3"])))
    with pytest.raises(ArtifactError, match="facts of 60 items for an index of 61"):
        ask(index, [1], Query(), Attributes(facts_for(index).table[:60]))


def test_filters_that_leave_nothing_say_which_removes_how_many():
    index = plain()
    facts = facts_for(index)
    request = Query(regions=frozenset(["NO"]), library=frozenset(["nobody"]), pop_begin=0.9999)
    found = next(search(index, np.array([5, 6]), query=request, attributes=facts))
    assert found.neighbours.shape == (2, 0)
    kept = int((facts.table["region"] == "NO").sum())
    assert found.note == (
        f"no item passes all filters (of 61 items, by each filter alone: region: {61 - kept} are "
        "left out; pop_begin: 61 are left out; library: 61 are left out)"
    )


def test_a_million_excluded_ids_are_taken_out():
    index = plain()
    million = frozenset(f"x{n}" for n in range(10**6)) | {"i3"}
    found = ask(index, [5], Query(k=70, exclude=million))[0]
    assert set(found) == set(range(61)) - {3, 5}


def test_an_item_of_which_nothing_is_known_passes_no_filter_on_it():
    index = plain()
    table = facts_for(index).table.with_columns(pl.lit(None, pl.Float64).alias("percentile"))
    facts = Attributes(table)
    assert not filters.passing(Query(max_popularity=0.9), facts).any()
    assert filters.passing(Query(exclude=frozenset("z")), facts).all()


def slow_chain(links, start, end):
    """Dijkstra by scipy: the cost of the cheapest way."""
    from scipy.sparse.csgraph import dijkstra

    return float(dijkstra(links, indices=start)[end])


def test_a_chain_is_the_cheapest_one_and_names_no_item_twice():
    index = plain(n=83)
    links = neighbours.graph(index, k=4)
    for start, end in [(0, 82), (5, 17), (40, 41), (7, 7)]:
        found = neighbours.shortest_path(links, start, end)
        assert (found.rows[0], found.rows[-1]) == (start, end)
        assert len(set(found.rows)) == len(found.rows)
        cost = sum(links[a, b] for a, b in pairwise(found.rows))
        assert cost == pytest.approx(slow_chain(links, start, end))
        assert (1 - found.similarity).sum() == pytest.approx(cost, abs=1e-5)


def test_a_chain_of_few_steps_may_cost_more():
    links = neighbours.graph(plain(n=83, width=3), k=4)
    shorter = 0
    for end in range(60, 83):
        free = neighbours.shortest_path(links, 0, end)
        needed = next(
            s for s in range(1, 83) if neighbours.shortest_path(links, 0, end, steps=s).rows
        )
        short = neighbours.shortest_path(links, 0, end, steps=needed)
        assert len(short.rows) - 1 == needed <= len(free.rows) - 1
        shorter += needed < len(free.rows) - 1
        assert (1 - short.similarity).sum() >= (1 - free.similarity).sum() - 1e-6
    assert shorter > 3
    assert not neighbours.shortest_path(links, 0, end, steps=needed - 1).rows
    with pytest.raises(DataError, match="steps is 0; allow 1 or more"):
        neighbours.shortest_path(links, 0, 82, steps=0)


def test_there_is_no_chain_between_two_worlds_and_twins_are_near():
    vectors = np.zeros((14, 2), np.float32)
    vectors[:6, 0], vectors[6:13, 1] = 1, 1  # 13 has no E_G
    index = Index(Embeddings(tuple(f"i{x}" for x in range(14)), vectors))
    links = neighbours.graph(index, k=3)
    assert neighbours.shortest_path(links, 0, 9).rows == ()
    assert neighbours.shortest_path(links, 0, 13).rows == ()
    twins = neighbours.shortest_path(links, 0, 5)
    assert twins.rows[-1] == 5
    assert (twins.similarity > 0.999).all()


def test_stored_lists_say_who_is_near_on_a_chain(tmp_path):
    index = learned()
    precomputed.make_lists(index, tmp_path, kind="artist", length=31)
    stored = replace(index, lists=precomputed.read(tmp_path / "lists/artist.npy", n=N))
    links = neighbours.graph(stored, k=5)
    near = stored.lists.rows[LOOSE.argmax(), :5]
    assert (links[LOOSE.argmax(), near].toarray() > 0).all()
    assert abs(links - links.T).max() < 1e-6


def test_places_that_are_not_there_give_no_answer():
    block = TopK(
        np.array([2]),
        np.array([[5, 6]]),
        np.array([[0.9, 0.8]], np.float32),
        np.full((1, 2), 0.5, np.float32),
    )
    taken = block.take(np.array([[1, -1]]))
    assert taken.neighbours.tolist() == [[6, -1]]
    assert taken.scores[0, 1] == -np.inf


@pytest.mark.parametrize("k", [1, 2, 83, 84, 300, 333])
def test_the_nearest_by_cosine_are_those_of_a_whole_sort_also_where_many_tie(k):
    generator = np.random.default_rng(0)
    coarse = np.round(generator.normal(size=(334, 3)))  # so coarse that most cosines stand twice
    vectors = unit(coarse.astype(np.float32))
    among = generator.permutation(334)[:333]
    among.sort()
    rows = np.arange(51)
    found = by_cosine(Embeddings(tuple(map(str, range(334))), vectors), rows, among=among, k=k)
    scores = vectors[rows] @ vectors[among].T
    scores[rows[:, None] == among[None, :]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    kept = np.isfinite(np.take_along_axis(scores, order, axis=1))
    assert (found.neighbours == np.where(kept, among[order], -1)).all()
