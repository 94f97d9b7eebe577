import dataclasses
import math

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from random_evidence import BARE, UNKNOWN, N, random_evidence, random_relations
from undersong.errors import ArtifactError
from undersong.io.tensors import read_tensors
from undersong.ranking import context
from undersong.ranking.candidates import gather_candidates
from undersong.ranking.cells import make_cells
from undersong.ranking.context import EDGE_FREE, ON_RELATIONS, RankingContext

# The hub (40 relations), an item nobody has linked, one without E_G, and ordinary ones.
ASKING = np.array([0, 3, 5, BARE, 40, 66, 100, 101, 102, 120, 130, 136])


def neighbours_of(evidence):
    return [list(evidence.relations[x].indices) for x in range(len(evidence.vectors))]


def cosine(evidence, a, b):
    return -1.0 if a == b else float(evidence.vectors[a] @ evidence.vectors[b])


def onward(walk, neighbours):
    """One step along the relations; a walk at an item without any ends."""
    found = np.zeros(len(walk))
    for item, mass in enumerate(walk):
        for other in neighbours[item]:
            found[other] += mass / len(neighbours[item])
    return found


def start_at_nearest(evidence, query, neighbours, *, count, warmth):
    known = np.abs(evidence.vectors).sum(axis=1) > 0
    linked = [x for x in range(len(known)) if neighbours[x] and known[x]]
    nearest = sorted(linked, key=lambda x: -cosine(evidence, query, x))[:count]
    weights = {x: math.exp(cosine(evidence, query, x) / warmth) for x in nearest}
    start = np.zeros(len(known))
    for item, weight in weights.items():
        start[item] = weight / sum(weights.values()) if known[query] else 0
    return start


def walk_from_nearest(evidence, query, neighbours, *, count, warmth):
    start = start_at_nearest(evidence, query, neighbours, count=count, warmth=warmth)
    return onward(start, neighbours)


def own_walks(query, neighbours):
    walk, short, whole = np.zeros(N), np.zeros(N), np.zeros(N)
    walk[query] = 1
    for turn in range(1, 6):
        walk = 0.8 * onward(walk, neighbours)
        whole += walk
        if turn <= 2:
            short += walk
    return short, whole


def where_walks_lead(evidence):
    """Four times 64 random numbers that go six hops along the relations, item by item; (n, 256)."""
    neighbours = neighbours_of(evidence)
    random = np.random.default_rng(0)
    parts = []
    for _ in range(4):
        sent = random.standard_normal((N, 64), dtype=np.float32) / 8
        walked = [np.zeros(64)] * N
        for _ in range(6):
            means = [
                sum(sent[x] + 4 * walked[x] for x in mine) / max(len(mine), 1) + np.zeros(64)
                for mine in neighbours
            ]
            walked = [x / max(np.linalg.norm(x), 1e-9) for x in means]
        for item in np.flatnonzero(evidence.degree == 0):
            nearest = start_at_nearest(evidence, item, neighbours, count=30, warmth=0.05)
            mean = nearest @ np.array(walked)
            walked[item] = mean / max(np.linalg.norm(mean), 1e-9)
        parts.append(np.array(walked) / 2)
    return np.hstack(parts)


def crowd(evidence, item):
    return np.mean(sorted(cosine(evidence, item, x) for x in range(N) if x != item)[-10:])


def slow_features(evidence, query, *, walked):
    """Every column for all candidates of one query, (n,) each, item by item as it is described."""
    neighbours = neighbours_of(evidence)
    degree = [len(x) for x in neighbours]
    narrow = walk_from_nearest(evidence, query, neighbours, count=30, warmth=0.05)
    wide = walk_from_nearest(evidence, query, neighbours, count=100, warmth=0.1)
    own, own_whole = own_walks(query, neighbours)
    columns = {name: np.zeros(N) for name in evidence.names}
    own_relations = neighbours[query][:32]
    for item in range(N):
        nearest = start_at_nearest(evidence, item, neighbours, count=30, warmth=0.05)
        to_own = [cosine(evidence, item, x) for x in own_relations]
        shown = [cosine(evidence, query, x) for x in neighbours[item][:32]]
        common = set(neighbours[query]) & set(neighbours[item])
        values = {
            "cosine": cosine(evidence, query, item),
            "crowd of candidate": crowd(evidence, item),
            "crowd of query": crowd(evidence, query),
            "no E_G of candidate": float(item == BARE),
            "no E_G of query": float(query == BARE),
            "narrow walk": math.log(narrow[item] + 1e-4),
            "wide walk": math.log(wide[item] + 1e-4),
            "long walk": math.log(onward(narrow, neighbours)[item] + 1e-4),
            "own walk": math.log(own[item] + 1e-6),
            "own walks": math.log(own_whole[item] + 1e-6),
            "relations in common": math.log1p(
                sum(1 / math.log(degree[x]) for x in common if degree[x] > 1)
            ),
            "relations of candidate": math.log1p(degree[item]),
            "relations of query": math.log1p(degree[query]),
            "mean cosine to its relations": np.mean(shown) if shown else 0,
            "best cosine to its relations": max(shown, default=0),
            "narrow walk to its nearest": math.log(nearest @ narrow + 1e-4),
            "own walks to its nearest": math.log(nearest @ own_whole + 1e-6),
            "walk from candidate": math.log(onward(nearest, neighbours)[query] + 1e-4),
            "mean cosine to relations of query": sum(x for x in to_own if x != -1)
            / max(len(to_own), 1),
            "best cosine to relations of query": max(to_own, default=0),
            "walks of both": math.log(
                max(walked[query] @ walked[item] if degree[query] else 0, 0) + 1e-2
            ),
        }
        for source in evidence.sources:
            whole = source.values
            whole = whole.toarray() if sparse.issparse(whole) else whole
            lacking = source.missing[query] or source.missing[item]
            values[f"no {source.name}"] = float(lacking)
            values[f"same {source.name}"] = 0 if lacking else whole[query] @ whole[item]
        for name, value in values.items():
            columns[name][item] = value
    columns["rank of walk"] = narrow + own_whole  # ranked by the caller, who knows the candidates
    return columns


@pytest.fixture(scope="module")
def slow():
    evidence = random_evidence(hub=40)
    walked = where_walks_lead(evidence)
    return {int(query): slow_features(evidence, query, walked=walked) for query in ASKING}


@pytest.mark.parametrize("asking", [ASKING, ASKING[[1, 3, 5]]], ids=["many", "few"])
def test_every_column_is_what_a_plain_loop_finds(slow, asking):
    evidence = random_evidence(hub=40)
    assert ((evidence.degree > 0) & evidence.embedded).sum() > 100
    assert evidence.degree[0] > 32
    assert evidence.degree[BARE] > 1
    found = gather_candidates(evidence, asking, count=N)
    ranks = {"rank of cosine", "rank of walk"}
    for place, query in enumerate(asking):
        kept = found.candidates[place] >= 0
        items = found.candidates[place][kept]
        assert set(items) == set(range(N)) - {query, UNKNOWN}
        for column, name in enumerate(evidence.names):
            if name in ranks:
                continue
            ours, wanted = found.features[place, kept, column], slow[int(query)][name][items]
            # Where walks lead is in half precision, and the logarithm of little is steep.
            exact = {"atol": 0.1 if name == "walks of both" else 1e-5, "rtol": 1e-4}
            np.testing.assert_allclose(ours, wanted, err_msg=name, **exact)


def test_ranks_count_from_the_best_new_candidate_and_no_empty_place_is_one(slow):
    """A candidate whose relation is known stands before all others, and is in nobody's way."""
    evidence = random_evidence(hub=40)
    among = np.arange(N) % 3 == 0  # 46 items for 80 places; the last item, N - 1, is not one
    asking = ASKING[ASKING != BARE]
    found = gather_candidates(evidence, asking, count=80, among=among)
    for name, by in (("rank of cosine", "cosine"), ("rank of walk", "rank of walk")):
        column = found.features[..., evidence.names.index(name)]
        for place, query in enumerate(asking):
            candidates = found.candidates[place]
            known = evidence.relations[int(query)].toarray()[0].astype(bool)[candidates]
            new = (candidates >= 0) & ~known
            values = slow[int(query)][by][candidates[new]]
            order = np.argsort(column[place][new])
            np.testing.assert_allclose(
                np.sort(column[place][new]), np.log1p(np.arange(new.sum())), rtol=1e-5
            )
            assert (
                column[place][known & (candidates >= 0)] == np.log1p(new.sum()).astype("f4")
            ).all()
            assert (np.diff(values[order]) <= 1e-6).all(), name


def test_the_names_say_which_columns_read_relations():
    evidence = random_evidence()
    other = dataclasses.replace(evidence, relations=random_relations(seed=8))
    a, b = (gather_candidates(x, ASKING, count=N, long_tail=1.0) for x in (evidence, other))
    np.testing.assert_array_equal(np.sort(a.candidates), np.sort(b.candidates))
    order = [np.argsort(x.candidates, axis=1) for x in (a, b)]
    a, b = (
        np.take_along_axis(x.features, turn[..., None], axis=1)
        for x, turn in zip((a, b), order, strict=True)
    )
    # A rank by cosine leaves out who is known already, and reads nothing else of relations.
    place = evidence.names.index("rank of cosine")
    a[..., place] = b[..., place]
    alike = [bool(np.allclose(a[..., x], b[..., x])) for x in range(a.shape[2])]
    assert [not x for x in alike] == evidence.on_relations.tolist()
    assert evidence.names == (
        *EDGE_FREE,
        *("same sound", "same tags", "no sound", "no tags"),
        *ON_RELATIONS,
    )


def hide(relations, items):
    """Forget every relation of some items."""
    kept = np.ones(N, dtype=bool)
    kept[items] = False
    return sparse.csr_matrix(relations.toarray() & np.outer(kept, kept))


def test_relations_that_are_hidden_change_nothing():
    hidden = np.array([5, 40, 66, 100])
    evidence, elsewhere = random_evidence(), random_relations(seed=9)
    keep = np.zeros((N, N), dtype=bool)
    keep[hidden] = keep[:, hidden] = True
    mixed = np.where(keep, elsewhere.toarray(), evidence.relations.toarray())
    assert (mixed != evidence.relations.toarray()).any()
    one, two = (
        gather_candidates(
            dataclasses.replace(evidence, relations=hide(x, hidden)), hidden, count=29
        )
        for x in (evidence.relations, sparse.csr_matrix(mixed))
    )
    np.testing.assert_array_equal(one.candidates, two.candidates)
    np.testing.assert_array_equal(one.features, two.features)
    names = list(evidence.names)
    for name in ("own walk", "own walks"):
        assert np.unique(one.features[..., names.index(name)]) == pytest.approx(math.log(1e-6))
    for name in ("relations of query", "relations in common"):
        assert not one.features[..., names.index(name)].any()


def test_permuting_the_items_permutes_what_is_gathered():
    evidence = random_evidence()
    assert evidence.degree.max() <= 32
    turn = np.random.default_rng(3).permutation(N)  # new row -> old row
    back = np.argsort(turn)
    other = RankingContext(
        evidence.vectors[turn],
        tuple(
            dataclasses.replace(x, values=x.values[turn], missing=x.missing[turn])
            for x in evidence.sources
        ),
        evidence.relations[turn][:, turn].tocsr(),
        led=evidence.walked[turn],  # its random vectors are drawn row by row
    )
    asking = ASKING[[0, 1, 5, 9]]
    one = gather_candidates(evidence, asking, count=31)
    two = gather_candidates(other, back[asking], count=31)
    np.testing.assert_array_equal(one.candidates, turn[two.candidates])
    np.testing.assert_allclose(one.features, two.features, atol=1e-4)


def test_an_item_of_which_nothing_is_known_is_no_candidate_and_has_none():
    evidence = random_evidence()
    found = gather_candidates(evidence, np.array([5, UNKNOWN]), count=N)
    assert UNKNOWN not in found.candidates[0]
    assert (found.candidates[1:] == -1).all()
    assert not found.features[1:].any()


def test_an_item_of_which_only_relations_are_known_is_a_candidate_and_has_some():
    evidence = random_evidence()
    found = gather_candidates(evidence, np.array([5, BARE]), count=N)
    assert BARE in found.candidates[0]
    step = evidence.relations.astype(int)
    reached = (step + step @ step)[BARE].indices
    near = set(reached) - {BARE}
    assert set(found.candidates[1][: len(near)]) >= near & set(evidence.relations[BARE].indices)
    walk = found.features[1, :, evidence.names.index("own walk")]
    assert (walk[:-2] > np.log(1.001e-6)).sum() == len(near)  # the last two places are empty
    narrow = found.features[1, :-2, evidence.names.index("narrow walk")]
    np.testing.assert_allclose(narrow, np.log(1e-4), rtol=1e-6)


def test_among_and_excluded_pairs_say_who_may_be_a_candidate():
    evidence, among = random_evidence(), np.arange(N) % 3 == 0
    found = gather_candidates(evidence, ASKING, count=80, among=among, excluded=evidence.relations)
    for query, items in zip(ASKING, found.candidates, strict=True):
        allowed = set(np.flatnonzero(among)) - {query, UNKNOWN}
        allowed -= set(evidence.relations[query].indices)
        assert set(items[items >= 0]) == allowed
        assert (items[len(allowed) :] == -1).all()
    assert not found.features[found.candidates < 0].any()


def test_a_third_of_the_candidates_is_nearest_whatever_the_relations_say():
    evidence = random_evidence()
    asking = ASKING[ASKING != BARE]
    found = gather_candidates(evidence, asking, count=27)
    cosines = evidence.cosines(asking)
    cosines[:, [BARE, UNKNOWN]] = -1
    for items, near in zip(found.candidates, np.argsort(-cosines, axis=1), strict=True):
        assert set(near[:9]) <= set(items)


def test_known_relations_are_candidates_even_of_an_item_that_has_many():
    evidence = random_evidence(hub=40)
    found = gather_candidates(evidence, np.array([0]), count=47)
    related = set(evidence.relations[0].indices)
    assert len(related) > 37
    assert related <= set(found.candidates[0])


def test_without_any_relation_the_candidates_are_the_nearest():
    evidence = random_evidence()
    bare = dataclasses.replace(evidence, relations=sparse.csr_matrix((N, N), dtype=bool))
    asking = ASKING[ASKING != BARE]
    found = gather_candidates(bare, asking, count=19)
    cosines = bare.cosines(asking)
    cosines[:, [BARE, UNKNOWN]] = -1
    np.testing.assert_array_equal(found.candidates, np.argsort(-cosines, axis=1)[:, :19])
    assert np.isfinite(found.features).all()


def test_the_file_of_evidence_gives_back_what_was_written(tmp_path):
    evidence = random_evidence()
    context.write(tmp_path / "e", evidence)
    found = context.read(tmp_path / "e", evidence.vectors)
    assert found.names == evidence.names
    assert [x.weight for x in found.sources] == [1.0, 0.5]
    one, two = (gather_candidates(x, ASKING, count=17) for x in (evidence, found))
    np.testing.assert_array_equal(one.features, two.features)
    # so that readers share one copy of them, which is no part of their own memory
    mapped = (found.nearest.indices, found.nearest.data, found.relations.indices, found.walked)
    assert not any(x.flags.owndata for x in mapped)
    # so that opening a run compares nothing with everything
    assert found.measured is not None
    assert found.stored is not None
    np.testing.assert_array_equal(found.nearest.toarray(), evidence.nearest.toarray())
    np.testing.assert_array_equal(found.crowd, evidence.crowd)


def test_a_file_of_evidence_without_any_relation_is_read(tmp_path):
    evidence = random_evidence()
    none = dataclasses.replace(evidence, relations=sparse.csr_matrix((N, N), dtype=bool))
    context.write(tmp_path / "e", none)
    assert context.read(tmp_path / "e", evidence.vectors).relations.nnz == 0


def test_a_file_of_evidence_from_before_crowds_were_kept_is_read(tmp_path):
    evidence, path = random_evidence(), tmp_path / "e"
    context.write(path, evidence)
    about, known = read_tensors(path, version=1)
    for name in [x for x in known if x in ("crowd", "walked") or x.startswith("nearest.")]:
        known.pop(name)
    save_file(known, path, about)
    found = context.read(path, evidence.vectors)
    assert found.measured is None
    assert found.stored is None
    assert found.led is None
    np.testing.assert_array_equal(found.nearest.toarray(), evidence.nearest.toarray())
    np.testing.assert_array_equal(found.crowd, evidence.crowd)


def test_an_order_of_an_older_version_does_not_wait_for_where_walks_lead():
    evidence = random_evidence()
    older = gather_candidates(evidence, ASKING, count=17, both=False)
    assert "walked" not in vars(evidence)
    newer = gather_candidates(evidence, ASKING, count=17)
    same = np.array([x != "walks of both" for x in evidence.names])
    np.testing.assert_array_equal(older.features[..., same], newer.features[..., same])


def test_evidence_that_sees_other_relations_is_as_crowded():
    evidence = random_evidence()
    other = random_relations(n=N, share=0.02, hub=11, seed=9)
    shown = evidence.seeing(other)
    assert shown.crowd is evidence.crowd
    assert (shown.degree == np.diff(other.indptr)).all()
    fresh = gather_candidates(
        RankingContext(evidence.vectors, evidence.sources, other), ASKING, count=17
    )
    again = gather_candidates(shown, ASKING, count=17)
    np.testing.assert_array_equal(again.features, fresh.features)


@pytest.fixture
def small_cells(monkeypatch):
    """Cells of 8 items, of which an item looks at some 40: many in small."""
    for name, value in {"SMALL": 50, "SIZE": 8, "LOOKED": 40}.items():
        monkeypatch.setattr(f"undersong.ranking.cells.{name}", value)
    monkeypatch.setattr("undersong.ranking.context.AROUND", 40)


def test_of_many_items_those_of_few_cells_are_looked_at(small_cells):
    evidence = random_evidence()
    assert len(evidence.cells.beside) > 12
    asking = np.delete(np.arange(N), [BARE, UNKNOWN])
    near = evidence.cells.nearest(evidence.vectors, asking, k=6)
    assert (near >= 0).all()
    assert (near != asking[:, None]).all()
    assert all(len(set(x)) == 6 for x in near)
    cosines = evidence.cosines(asking)
    cosines[:, [BARE, UNKNOWN]] = -1
    best = np.argsort(-cosines, axis=1)[:, :6]
    shared = [len(np.intersect1d(a, b)) / 6 for a, b in zip(near, best, strict=True)]
    assert 0.8 < np.mean(shared) < 1
    looked = [evidence.cells.looked_at(x, looked=40) for x in range(len(evidence.cells.beside))]
    assert max(map(len, looked)) < 40 + 4 * 8
    again = random_evidence().cells.nearest(evidence.vectors, asking, k=6)
    np.testing.assert_array_equal(near, again)


def test_looking_around_reports_how_far_it_is(small_cells):
    evidence, reported = random_evidence(), {}
    looked = evidence.looking_around(
        lambda stage, done, total, note="": reported.setdefault(stage, []).append((done, total))
    )
    steps = reported["who is near whom"]
    assert steps[0] == (0, N)
    assert steps[-1] == (N, N)
    assert len(steps) > len(evidence.cells.beside)
    assert looked.walked.shape == evidence.walked.shape
    assert len(reported["walks"]) > 20  # hop by hop
    assert len(reported["nearest linked"]) == 2
    assert reported["cells"][-1] == (4, 4)  # three rounds of k-means, and all are assigned
    for some in reported.values():
        shares = [done / total for done, total in some]
        assert shares == sorted(shares)
    np.testing.assert_array_equal(looked.measured, evidence.crowd)
    np.testing.assert_array_equal(looked.near[0], evidence.kin[0])


def test_many_are_asked_cell_by_cell_and_each_once(small_cells):
    cells, some = random_evidence().cells, np.arange(N)[::-1]
    turn = cells.in_turn(some)
    assert sorted(turn) == list(range(len(some)))
    cell = cells.cells_of(some[turn])
    assert set(some[turn][cell < 0]) == {BARE, UNKNOWN}
    assert (np.diff(cell.view(np.uint32).astype(np.int64)) >= 0).all()


def test_of_few_items_that_may_be_answers_all_are_looked_at(small_cells):
    evidence, among = random_evidence(), np.arange(N) % 5 == 2
    asking = ASKING[ASKING != BARE]
    near = evidence.cells.nearest(evidence.vectors, asking, k=4, among=among)
    cosines = np.where(among & evidence.embedded, evidence.cosines(asking), -np.inf)
    for own, best in zip(near, np.argsort(-cosines, axis=1)[:, :4], strict=True):
        assert set(own) == set(best)


def test_a_cell_of_items_that_are_all_alike_is_cut(small_cells):
    vectors = np.tile(random_evidence().vectors[:3], (71, 1))
    cells = make_cells(vectors, np.arange(213))
    assert np.diff(cells.starts).max() <= 4 * 8
    assert sorted(cells.order) == list(range(213))
    near = cells.nearest(vectors, np.array([0, 211]), k=5)
    assert (near % 3 == np.array([[0], [211 % 3]])).all()


def test_of_many_items_answers_are_nearly_those_of_all(small_cells, monkeypatch):
    asking = np.delete(ASKING, [3])
    some = gather_candidates(random_evidence(), asking, count=21)
    monkeypatch.setattr("undersong.ranking.cells.SMALL", 200)
    whole = gather_candidates(random_evidence(), asking, count=21)
    shared = [
        len(np.intersect1d(a, b)) / 21
        for a, b in zip(some.candidates, whole.candidates, strict=True)
    ]
    assert 0.7 < np.mean(shared) < 1
    crowd = random_evidence().crowd
    monkeypatch.setattr("undersong.ranking.cells.SMALL", 50)
    assert (random_evidence().crowd <= crowd + 1e-6).all()


def test_a_walk_goes_on_from_its_heaviest_ends_alone(monkeypatch):
    evidence = random_evidence(hub=40)
    whole = gather_candidates(evidence, np.array([66]), count=N)
    monkeypatch.setattr("undersong.ranking.candidates.ENDS", 9)
    monkeypatch.setattr("undersong.ranking.candidates.HUB", 11)
    some = gather_candidates(evidence, np.array([66]), count=N)
    place = evidence.names.index("own walks")
    a, b = (dict(zip(x.candidates[0], x.features[0, :, place], strict=True)) for x in (whole, some))
    assert all(b[x] <= a[x] + 1e-5 for x in b)
    assert sum(b[x] < a[x] - 1e-3 for x in b) > 10
    assert all(b[x] > math.log(1e-6) for x in evidence.relations[66].indices[:11])


def test_relations_that_are_seen_later_need_no_second_look_around():
    evidence, other = random_evidence(), random_relations(seed=8).tolil()
    other[3, 14] = other[14, 3] = True  # of whom no relation was seen before
    other = other.tocsr()
    linkable = (evidence.degree > 0) | (other.getnnz(axis=1) > 0)
    first = dataclasses.replace(evidence, linkable=linkable)
    seen, fresh = first.seeing(other), dataclasses.replace(evidence, relations=other)
    assert seen.near is first.kin
    np.testing.assert_allclose(seen.nearest.toarray(), fresh.nearest.toarray(), atol=1e-6)
    later = evidence.seeing(other)
    assert later.near is None
    np.testing.assert_allclose(later.nearest.toarray(), fresh.nearest.toarray(), atol=1e-6)


def test_a_file_of_evidence_that_does_not_fit_is_named(tmp_path):
    evidence, path = random_evidence(), tmp_path / "evidence.safetensors"
    with pytest.raises(ArtifactError, match=r"evidence.safetensors cannot be read .*train again"):
        context.read(path, evidence.vectors)
    context.write(path, evidence)
    with pytest.raises(ArtifactError, match="is about 137 items, but 88 have a vector"):
        context.read(path, evidence.vectors[:88])
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="cannot be read .*train again"):
        context.read(path, evidence.vectors)
    save_file({"x": np.zeros(3)}, path, {"format": "9"})
    with pytest.raises(ArtifactError, match="format 9, but this version reads 1; train again"):
        context.read(path, evidence.vectors)
