import numpy as np
import pytest
from scipy import sparse

from undersong import metrics
from undersong.errors import ArtifactError
from undersong.evaluation.method import CELLS, blocks, make_ties, rank

N, QUERIES, K = 37, 11, 5


def world(seed, n=N):
    """Random scores with many ties, random relations, some queries, some candidates."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(-4, 5, size=(QUERIES, n)).astype(np.float32) / 4
    truth = sparse.csr_matrix(np.triu(generator.random((n, n)) < 0.2, 1))
    rows = np.sort(generator.choice(n, QUERIES, replace=False))
    return scores, (truth + truth.T).astype(bool).tocsr(), rows


def ranked(scores, truth, rows, *, n=N, candidates=None, groups=None, k=K, seed=3):
    return rank(
        scores,
        rows,
        candidates=np.arange(n) if candidates is None else candidates,
        groups=np.arange(n) if groups is None else groups,
        relevant=truth,
        ties=make_ties(n, seed=seed),
        k=k,
    )


def one_by_one(scores, query, candidates, groups, ties):
    """All candidates of one query in order, best first, read aloud."""
    n = len(groups)
    allowed = [int(c) for c in candidates if groups[c] != groups[query]]
    place = {c: (ties.place[c] + ties.turn[query]) % n for c in allowed}
    return sorted(allowed, key=lambda c: (-scores[c], -place[c]))


@pytest.mark.parametrize("seed", range(4))
def test_ranks_and_short_lists_equal_a_sort_of_each_query(seed):
    scores, truth, rows = world(seed)
    candidates = np.sort(np.random.default_rng(seed).choice(N, 29, replace=False))
    groups = np.arange(N) // 3
    found = ranked(scores, truth, rows, candidates=candidates, groups=groups)
    for place, query in enumerate(rows):
        order = one_by_one(scores[place], query, candidates, groups, make_ties(N, seed=3))
        assert found.top[place].tolist() == order[:K]
        relevant = set(truth[query].indices)
        wanted = [position for position, c in enumerate(order, 1) if c in relevant]
        assert found.ranks[place].tolist() == wanted


def test_fewer_candidates_than_the_short_list_leave_it_short():
    scores, truth, rows = world(0)
    found = ranked(scores, truth, rows, candidates=rows[:3], k=7)
    assert (found.top[0] >= 0).tolist() == [True, True, False, False, False, False, False]
    assert (found.top[5] >= 0).sum() == 3


def test_minus_zero_ties_with_zero_and_minus_infinity_comes_last_but_before_nobody():
    n, rows = 5, np.array([4])
    scores = np.array([[-np.inf, -0.0, 0.0, -1.0, 9.0]], dtype=np.float32)
    tops = [ranked(scores, None, rows, n=n, k=6, seed=s).top[0].tolist() for s in range(40)]
    assert {tuple(top[:2]) for top in tops} == {(1, 2), (2, 1)}
    assert {tuple(top[2:]) for top in tops} == {(3, 0, -1, -1)}


def test_a_constant_scorer_is_as_good_and_as_varied_as_chance():
    n, k = 400, 10
    rows = np.arange(n)
    truth = sparse.csr_matrix(np.ones((n, n), dtype=bool))
    flat = ranked(np.zeros((n, n), dtype=np.float32), truth, rows, n=n, k=k)
    drawn = np.random.default_rng(1).random((n, n)).astype(np.float32)
    chance = ranked(drawn, truth, rows, n=n, k=k)
    counts = [metrics.occurrences(x.top, rows, n=n) for x in (flat, chance)]
    assert metrics.coverage(counts[0]) > 0.95
    assert metrics.gini(counts[0]) == pytest.approx(metrics.gini(counts[1]), abs=0.1)
    first = [np.mean([np.isin(0, top) for top in x.top]) for x in (flat, chance)]
    assert max(first) < 0.1


def test_scores_with_a_nan_or_of_another_shape_are_refused():
    scores, truth, rows = world(0)
    with pytest.raises(ArtifactError, match=r"shape \(11, 36\) for 11 queries among 37 items"):
        ranked(scores[:, 1:], truth, rows)
    scores[2, 5] = np.nan
    with pytest.raises(ArtifactError, match=f"scores of item {rows[2]} hold a NaN"):
        ranked(scores, truth, rows)


def test_blocks_keep_every_query_and_shrink_for_a_large_catalogue():
    rows = np.arange(10, 33)
    assert np.concatenate(blocks(rows, n=N, block=7)).tolist() == rows.tolist()
    assert [len(x) for x in blocks(rows, n=N, block=7)] == [7, 7, 7, 2]
    assert {len(x) for x in blocks(rows, n=CELLS // 2, block=7)} == {2, 1}


def test_accuracy_equals_plain_loops():
    lists = [[1, 4, 6], [], [2], [3, 5, 9, 12, 20, 33], [6, 7]]
    found = metrics.accuracy([np.array(x, dtype=np.int64) for x in lists], k=K)
    for query, ranks in enumerate(lists):
        if not ranks:
            assert all(np.isnan(x[query]) for x in found.values())
            continue
        near = [r for r in ranks if r <= K]
        assert found["hit@5"][query] == float(bool(near))
        assert found["recall@5"][query] == pytest.approx(len(near) / min(len(ranks), K))
        for name, cut in (("", 10**6), ("@5", K)):
            precision = sum((i + 1) / r for i, r in enumerate(ranks) if r <= cut)
            assert found["map" + name][query] == pytest.approx(precision / len(ranks))
            gain = sum(1 / np.log2(r + 1) for r in ranks if r <= cut)
            ideal = sum(1 / np.log2(i + 2) for i in range(min(len(ranks), cut)))
            assert found["ndcg" + name][query] == pytest.approx(gain / ideal)


def test_accuracy_agrees_with_ir_measures():
    ir_measures = pytest.importorskip("ir_measures")
    n, k = 260, 10
    scores, truth, rows = world(5, n=n)
    scores += np.random.default_rng(6).normal(0, 1e-3, scores.shape).astype(np.float32)
    truth = truth.tolil()
    truth[rows[2]] = False
    truth = truth.tocsr()
    found = metrics.accuracy(ranked(scores, truth, rows, n=n, k=k).ranks, k=k)
    qrels = [ir_measures.Qrel(str(q), str(d), 1) for q in rows for d in truth[q].indices if d != q]
    run = [
        ir_measures.ScoredDoc(str(q), str(d), float(scores[place, d]))
        for place, q in enumerate(rows)
        for d in range(n)
        if d != q
    ]
    theirs = {
        "hit@10": "Success@10",
        "map": "AP",
        "ndcg": "nDCG",
        "map@10": "AP@10",
        "ndcg@10": "nDCG@10",
        "ndcg@200": "nDCG@200",
    }
    wanted = {ir_measures.parse_measure(name): ours for ours, name in theirs.items()}
    place = {str(q): i for i, q in enumerate(rows)}
    seen = 0
    for metric in ir_measures.iter_calc(list(wanted), qrels, run):
        ours = found[wanted[metric.measure]][place[metric.query_id]]
        assert ours == pytest.approx(metric.value, abs=1e-6), metric
        seen += 1
    assert seen == len(theirs) * (QUERIES - 1)
    assert np.isnan(found["map"][2])


def test_consistency_counts_equal_known_fields():
    codes = np.array([[1, 2, 3], [1, 2, 4], [1, -1, 3], [-1, -1, -1], [1, 2, 3]], dtype=np.int32)
    rows = np.array([0, 3, 2, 1])
    top = np.array([[1, 4], [0, 3], [0, -1], [-1, -1]])
    shared, strict = metrics.consistency(codes, rows, top)
    assert shared == pytest.approx([(2 / 3 + 1) / 2, 0, 2 / 3, 0])
    assert strict == pytest.approx([0.5, 0, 0, 0])


def test_overlap_is_jaccard_averaged_over_fields_and_answers():
    tags = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]]))
    word = sparse.csr_matrix(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]))
    found = metrics.overlap([tags, word], np.array([0, 2]), np.array([[1, 3, -1], [0, 1, 2]]))
    assert found == pytest.approx([((1 / 3 + 1) / 2 + (1 + 0) / 2) / 2, (0.5 + 0.5 + 0.5) / 3])


def test_exposure_numbers_have_their_known_values():
    even, one = np.full(8, 3), np.array([0, 0, 0, 24, 0, 0, 0, 0])
    assert metrics.gini(even) == pytest.approx(0)
    assert metrics.gini(one) == pytest.approx(7 / 8)
    assert metrics.gini(np.zeros(4, dtype=np.int64)) == 0
    assert (metrics.coverage(one), metrics.unreachable(one)) == (1 / 8, 7 / 8)
    assert metrics.hubness(even) == 0
    assert metrics.hubness(one) == pytest.approx(6 / np.sqrt(7))


def test_percentiles_share_ties_and_put_the_unknown_last():
    found = metrics.percentiles(np.array([5.0, -np.inf, 5.0, 7.0]))
    assert found == pytest.approx([0.5, 0.125, 0.5, 0.875])


def test_fast_cold_ndcg_equals_the_slow_one():
    n, d = 61, 6
    generator = np.random.default_rng(8)
    vectors = generator.normal(size=(n, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, truth, rows = world(9, n=n)
    for k in (4, 200):
        slow = metrics.accuracy(ranked(vectors[rows] @ vectors.T, truth, rows, n=n).ranks, k=k)
        fast = metrics.cold_ndcg(vectors, rows, truth, k=k, block=4)
        assert fast == pytest.approx(slow[f"ndcg@{k}"].mean())


def test_vectors_that_collapsed_score_as_the_worst_ranking():
    _, truth, rows = world(1)
    flat = np.ones((N, 3), dtype=np.float32) / np.sqrt(np.float32(3))
    # All others tie, so each relevant item counts as the last of the 36.
    relevant = np.diff(truth[rows].indptr)
    worst = [r / np.log2(N) / (1 / np.log2(np.arange(2, r + 2))).sum() for r in relevant]
    assert metrics.cold_ndcg(flat, rows, truth) == pytest.approx(np.mean(worst))
    assert metrics.cold_ndcg(flat, rows, sparse.csr_matrix((N, N), dtype=bool)) == 0
