"""Deezer's published protocol: their files in, their three metrics out, as a slow loop has them."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import sparse

from planted import QUICK_SETTINGS
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.errors import ArtifactError
from undersong.evaluation.directed import directed_accuracy, judge_directed, read_directed
from undersong.evaluation.method import Method, from_vectors
from undersong.evaluation.protocols import EvaluationSettings
from undersong.report import formats

ROOT = Path(__file__).parent.parent
N, GROUPS, POINTED = 230, 6, 20
SETTINGS = EvaluationSettings(resamples=100, block=7)
PARTS = np.array(["train"] * 184 + ["test"] * 23 + ["validation"] * 23)


def write_public(folder):
    """Write the two files as published: ids that begin at 1, loops, weights that may be above 1."""
    folder.mkdir()
    generator = np.random.default_rng(6)
    group = generator.integers(GROUPS, size=N)
    centre = generator.normal(size=(GROUPS, 36))
    edges, lines = [], []
    for item in range(N):
        sound = centre[group[item]] + 0.4 * generator.normal(size=36)
        country = np.eye(20)[(group[item] + generator.integers(2)) % 19]
        values = [item + 1, *sound[:32], *country, *sound[32:]]
        lines.append(",".join(f"{x:.18e}" for x in values))
        chance = np.where(group == group[item], 9.0, 1.0) * (np.arange(N) != item)
        count = POINTED - 4 * (item % 9 == 0)  # a few artists point to fewer
        others = generator.choice(N, size=count, replace=False, p=chance / chance.sum())
        weights = np.sort(generator.random(count) * 1.3 + 0.01)[::-1]
        pairs = [(item, 1.0), *zip(others, weights, strict=True)]
        edges += [f"{item + 1:.1f},{other + 1:.1f},{float(weight)!r}" for other, weight in pairs]
    (folder / "deezer_features.csv").write_text("\n".join(lines) + "\n")
    (folder / "deezer_graph.csv").write_text("\n".join(edges) + "\n")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A catalogue of such files."""
    folder = tmp_path_factory.mktemp("deezer")
    data = write_public(folder / "data")
    call("import", "deezer", data, folder / "catalogue")
    return folder


def call(*words):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


def slow(answers, weights):
    """One query: ids best first, and {id: weight} -> metrics, by the words of the paper."""
    found = {}
    for k in (20, 100, 200):
        hits, average, gain = 0, 0.0, 0.0
        for place, item in enumerate(answers[:k], start=1):
            if item in weights:
                hits += 1
                average += hits / min(place, len(weights))
                gain += weights[item] / math.log2(place + 1)
        best = sorted(weights.values(), reverse=True)[:k]
        ideal = sum(x / math.log2(place + 1) for place, x in enumerate(best, start=1))
        found[f"recall@{k}"] = hits / len(weights)
        found[f"map@{k}"] = average / len(weights)
        found[f"ndcg@{k}"] = gain / ideal
    return found


def test_metrics_of_the_public_files_are_those_of_the_slow_loop(home):
    catalogue = tables.read_catalogue(home / "catalogue")
    ids, vectors = catalogue.ids("artist"), catalogue.features["descriptors", "artist"].vectors
    pointing = read_directed(home / "catalogue", ids)
    method = from_vectors("kNN", vectors, missing=np.zeros(N, dtype=bool))
    protocol = judge_directed(
        [method, Method("nobody", lambda rows: np.zeros((len(rows), N), np.float32))],
        pointing,
        kind="artist",
        splits=PARTS,
        split="test",
        reference="kNN",
        settings=SETTINGS,
    )
    weights = {}
    for line in (home / "data" / "deezer_graph.csv").read_text().splitlines():
        a, b, weight = map(float, line.split(","))
        if a != b:
            weights.setdefault(int(a) - 1, {})[int(b) - 1] = weight
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    each = []
    for query in range(184, 207):
        order = np.argsort(-(unit @ unit[query]))
        each.append(slow([x for x in order if x != query], weights[query]))
    numbers = protocol.slices[0].numbers
    for name in each[0]:
        wanted = np.mean([x[name] for x in each])
        assert numbers["kNN"][name].mean.value == pytest.approx(wanted, rel=1e-6), name
        assert numbers["kNN"][name].mean.low < wanted < numbers["kNN"][name].mean.high
        if name != "recall@200":
            assert numbers["nobody"][name].difference.value < 0
    assert (protocol.candidates, protocol.skipped) == (N, 0)


def test_the_order_of_right_answers_counts_by_their_similarity():
    right = sparse.csr_matrix(np.array([[0, 0.5, 0, 2.0, 1.0], [0, 0, 0, 0, 0]]))
    similarity = np.zeros((2, 200))
    similarity[0, :4] = [1.0, 0, 2.0, 0.5]
    found = directed_accuracy(similarity, right)
    assert found["recall@20"][0] == 1
    assert found["map@20"][0] == pytest.approx((1 + 2 / 3 + 3 / 3) / 3)  # not 3 / 4: R is 3
    best = 2 + 1 / math.log2(3) + 0.5 / 2
    assert found["ndcg@100"][0] == pytest.approx((1 + 2 / 2 + 0.5 / math.log2(5)) / best)
    assert all(np.isnan(x[1]) for x in found.values())


def test_validation_does_not_count_whom_of_the_test_items_it_points_to():
    pointing = sparse.csr_matrix((np.ones(2), ([3, 3], [0, 2])), shape=(5, 5))
    oracle = Method("oracle", lambda rows: np.array([[5, 4, 9, 0, 1]], np.float32))
    protocol = judge_directed(
        [oracle],
        pointing,
        kind="artist",
        splits=np.array(["train", "train", "test", "validation", "train"]),
        split="validation",
        reference="oracle",
        settings=SETTINGS,
    )
    found = protocol.slices[0].numbers["oracle"]
    # The test item stands first and is wrong: what is right is second.
    assert found["ndcg@20"].mean.value == pytest.approx(1 / math.log2(3))
    assert found["recall@20"].mean.value == 1


def test_methods_that_see_edges_and_queries_that_point_to_nobody_take_no_part():
    pointing = sparse.csr_matrix((np.ones(1), ([2], [0])), shape=(4, 4))
    flat = Method("flat", lambda rows: np.zeros((len(rows), 4), np.float32))
    seeing = Method("seeing", flat.scores, sees_edges=True)
    protocol = judge_directed(
        [flat, seeing],
        pointing,
        kind="artist",
        splits=np.array(["train", "train", "test", "test"]),
        split="test",
        reference="flat",
        settings=SETTINGS,
    )
    assert list(protocol.slices[0].numbers) == ["flat"]
    assert (protocol.slices[0].queries, protocol.skipped) == (2, 1)


def test_a_file_that_does_not_fit_the_catalogue_is_refused(tmp_path):
    assert read_directed(tmp_path, ["1"]) is None
    path = tmp_path / "directed.parquet"
    pl.DataFrame({"a": ["1"], "b": ["7"], "similarity": [0.5]}).write_parquet(path)
    with pytest.raises(ArtifactError, match="names '7', which is not in the catalogue"):
        read_directed(tmp_path, ["1", "2"])
    path.write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="directed.parquet cannot be read"):
        read_directed(tmp_path, ["1", "2"])


def test_evaluate_prints_the_published_metrics_of_a_run_on_the_public_files(home):
    example = (ROOT / "examples" / "deezer.toml").read_text()
    (home / "s.toml").write_text(example + QUICK_SETTINGS)
    call("train", home / "catalogue", home / "run", "--settings", home / "s.toml")
    shown = call("evaluate", home / "run")
    part = shown[shown.index("Protocol directed") :]
    assert "accuracy counts the 23 queries" in part
    heads = [x.split() for x in part.splitlines() if "recall@" in x]
    assert heads[:2] == [[f"{x}@{k}" for x in ("recall", "map", "ndcg")] for k in (20, 100)]
    assert heads[2][:3] == ["recall@200", "map@200", "ndcg@200"]
    report = formats.read(home / "run" / "report.json")
    numbers = report.protocols[-1].slices[0].numbers
    assert {"random", "GRM", "E_C", "popularity", "tag kNN", "gravity"} <= set(numbers)
    assert "PageRank" not in numbers
    grm, chance = (numbers[x]["recall@20"].mean.value for x in ("GRM", "random"))
    assert grm > 2 * chance
