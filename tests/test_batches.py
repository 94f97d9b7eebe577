import numpy as np
from scipy import sparse

from undersong.training import anchors_with_partners


def ring(n, linked):
    """Items 0..linked-1 in a ring; the others are unlinked."""
    a = np.arange(linked)
    both = (np.concatenate([a, (a + 1) % linked]), np.concatenate([(a + 1) % linked, a]))
    return sparse.csr_matrix((np.ones(2 * linked, bool), both), shape=(n, n))


def draw(seed, **sizes):
    return anchors_with_partners(np.random.default_rng(seed), ring(50, 40), **sizes)


def test_every_batch_holds_related_items():
    for seed in range(20):
        rows = draw(seed, anchors=5, partners=1)
        related = ring(50, 40)[rows][:, rows]
        assert related.nnz
        assert (np.diff(rows) > 0).all()
        assert len(rows) == 10
        assert rows.max() < 40


def test_each_linked_item_is_drawn_about_as_often():
    drawn = np.bincount(
        np.concatenate([draw(seed, anchors=8, partners=1) for seed in range(600)]), minlength=50
    )
    assert drawn[40:].sum() == 0
    assert drawn[:40].min() > 0.75 * drawn[:40].mean()


def test_others_are_added_as_they_are():
    rows = draw(1, anchors=3, partners=2, others=np.array([45, 49]))
    assert {45, 49} <= set(rows)


def test_asking_for_more_anchors_than_there_are_takes_all():
    assert draw(2, anchors=99, partners=1).tolist() == list(range(40))
