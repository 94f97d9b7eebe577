"""Each stage beside what a user would pick instead; ``--quick`` takes small sizes."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from sides import case, measure, peak_alone

from undersong.embeddings import Embeddings, unit


def machine(quick):
    """What the machine can do: copying, and multiplying matrices in two precisions."""
    n = 1024 if quick else 2048
    a = torch.randn(n, n)
    low, block = a.bfloat16(), np.ones(2 ** (24 if quick else 26), dtype=np.float32)
    ways = {
        "float32 product": lambda: a @ a,
        "bfloat16 product": lambda: low @ low,
        "copy": block.copy,
    }
    found = measure(ways, rounds=3 if quick else 7)
    seconds = {name: x["seconds"] for name, x in found.items()}
    return {
        "float32 GFLOP/s": 2e-9 * n**3 / seconds["float32 product"],
        "bfloat16 GFLOP/s": 2e-9 * n**3 / seconds["bfloat16 product"],
        "copied GB/s": 2e-9 * block.nbytes / seconds["copy"],
    }


def log_mel(quick):
    """30 s of sound -> log-mel, beside librosa and beside decoding its MP3."""
    import librosa
    import soundfile

    from undersong.audio.logmel import BANDS, COMPRESSION, HOP, RATE, WINDOW, log_mel

    seconds = 3 if quick else 30
    wave = np.random.default_rng(0).normal(0, 0.1, RATE * seconds).astype(np.float32)

    def theirs():
        power = librosa.feature.melspectrogram(
            y=wave, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS, pad_mode="constant"
        )
        return np.log1p(COMPRESSION * power)

    apart = float(np.abs(log_mel(wave[None])[0] - theirs()).max())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.mp3"
        soundfile.write(path, wave, RATE)
        ways = {
            "undersong": lambda: log_mel(wave[None]),
            "librosa": theirs,
            "limit: decoding the MP3": lambda: soundfile.read(path),
        }
        sides = measure(ways, rounds=3 if quick else 9)
    yield case("log-mel", f"{seconds} s", sides, check=f"largest difference {apart:.1e}")


def loss(quick):
    """Multi-Similarity with mining, forward and backward, beside pytorch-metric-learning."""
    import peaks
    from peaks import groups_of_eight
    from pytorch_metric_learning.losses import MultiSimilarityLoss
    from pytorch_metric_learning.miners import MultiSimilarityMiner

    from undersong.losses import MultiSimilarity, cosine, multi_similarity

    settings = MultiSimilarity()
    miner = MultiSimilarityMiner(epsilon=settings.margin)
    criterion = MultiSimilarityLoss(alpha=settings.alpha, beta=settings.beta, base=settings.gamma)
    for n in (384,) if quick else (256, 1_024, 4_096, 8_192):
        given, label = groups_of_eight(n)
        related = label[:, None] == label
        unrelated = ~related

        def step(value, given=given):
            given.grad = None
            value(torch.nn.functional.normalize(given, dim=1)).backward()

        def ours(e, related=related, unrelated=unrelated):
            return multi_similarity(cosine(e), related, unrelated, settings)

        def theirs(e, label=label):
            return criterion(e, label, miner(e, label))

        def products(given=given):
            fixed = given.detach()
            return (fixed @ fixed.T) @ fixed

        e = torch.nn.functional.normalize(given.detach(), dim=1)
        apart = abs(ours(e).item() - theirs(e).item())
        ways = {
            "undersong": lambda ours=ours, step=step: step(ours),
            "pytorch-metric-learning": lambda theirs=theirs, step=step: step(theirs),
            "limit: its two products": products,
        }
        sides = measure(ways, rounds=1 if n > 2_000 or quick else 9)
        for way in ("undersong", "pytorch-metric-learning"):
            sides[way]["mebibytes"] = peak_alone(peaks.OF_LOSS[way], n)
        yield case("loss", f"{n:,} x 256", sides, check=f"losses differ by {apart:.1e}")


def graph_step(quick):
    """Two hops of GraphSAGE, forward and backward, beside PyTorch Geometric."""
    from scipy import sparse
    from torch_geometric.nn import SAGEConv

    from undersong.models.graph.network import SageLayer, connect

    n, width = (500, 32) if quick else (9_627, 256)
    generator = np.random.default_rng(0)
    a, b = generator.integers(n, size=(2, 7 * n))
    both = (np.append(a, b), np.append(b, a))
    edges = sparse.csr_matrix((np.ones(14 * n, dtype=bool), both), shape=(n, n))
    there = connect(edges, device="cpu")
    pairs = edges.tocoo()
    index = torch.from_numpy(np.stack([pairs.col, pairs.row]).astype(np.int64))
    torch.manual_seed(0)
    vectors = torch.randn(n, width, requires_grad=True)
    layers = [SageLayer(width, width) for _ in range(2)]
    theirs = [SAGEConv(width, width) for _ in range(2)]
    for one, other in zip(layers, theirs, strict=True):
        other.lin_l.weight.data, other.lin_l.bias.data = (
            one.neighbours.weight.data,
            one.own.bias.data,
        )
        other.lin_r.weight.data = one.own.weight.data

    def ours():
        found = vectors
        for layer in layers:
            found = layer(found, there)
        found.sum().backward()
        return found

    def geometric():
        found = vectors
        for layer in theirs:
            found = layer(found, index)
            found = torch.nn.functional.normalize(torch.nn.functional.elu(found), dim=1)
        found.sum().backward()
        return found

    apart = (ours() - geometric()).abs().max().item()
    sides = measure({"undersong": ours, "PyTorch Geometric": geometric}, rounds=3 if quick else 5)
    size = f"{n:,} items, {edges.nnz:,} edges, width {width}"
    yield case("graph step", size, sides, check=f"vectors differ by {apart:.1e}")


def training(quick):
    """Steps of GRM on metadata, beside the same in plain PyTorch without our batch maker."""
    from dataclasses import replace

    import plain

    from undersong import features, relations
    from undersong.catalogue import tables
    from undersong.lab.synthetic.twin import make_twin
    from undersong.models.general.network import GeneralSettings
    from undersong.models.general.training import train_general
    from undersong.relations import Task
    from undersong.training import Compute, anchors_with_partners

    artists, steps = (311, 2) if quick else (9_627, 8)
    with tempfile.TemporaryDirectory() as folder:
        make_twin(Path(folder), artists=artists, tracks=0, plays=artists)
        catalogue = tables.read_catalogue(Path(folder))
    everything = np.full(artists, "train")
    sources = features.read(
        catalogue.artists, features.fit(catalogue, "artist", everything == "train"), {}
    )
    rows = np.arange(artists)
    values = [features.dense(x, rows) for x in sources]
    settings = GeneralSettings()
    related = relations.known(catalogue, "artist")
    alone = np.flatnonzero(related.getnnz(axis=1) == 0)
    others = alone[: settings.tail]
    batch = anchors_with_partners(
        np.random.default_rng(0), related, anchors=settings.anchors, partners=1, others=others
    )

    def ours(precision):
        schedule = replace(
            settings.training, steps=steps, validate_every=steps, precision=precision
        )
        with tempfile.TemporaryDirectory() as work:
            train_general(
                Task(catalogue, "artist", everything),
                sources,
                settings=replace(settings, training=schedule),
                compute=Compute(0, "cpu", Path(work)),
            )

    def theirs():
        return plain.train(values, related, settings=settings, steps=steps, batch=len(batch))

    ways = {
        "undersong": lambda: ours("auto"),
        "plain PyTorch": theirs,
        "undersong in float32": lambda: ours("float32"),
    }
    sides = measure(ways, rounds=1)
    held = relations.block(related, batch).sum() // 2
    check = f"related pairs in a batch {held:,}, shuffled {np.mean(theirs()):,.0f}"
    yield case("GRM", f"{steps} steps of {len(batch):,} items", sides, check=check)


def listeners(quick):
    """The 20 items that share most listeners, from all plays, beside implicit."""
    from implicit.nearest_neighbours import CosineRecommender

    from undersong import relations
    from undersong.catalogue import tables
    from undersong.lab.synthetic.twin import make_twin

    artists, plays = (311, 9_001) if quick else (9_627, 6_800_000)
    with tempfile.TemporaryDirectory() as folder:
        make_twin(Path(folder), artists=artists, tracks=0, plays=plays)
        heard = relations.listeners(tables.read_catalogue(Path(folder)), "artist")
    binary = (heard > 0).astype(np.float32).tocsr()

    def theirs():
        model = CosineRecommender(K=21, num_threads=1)
        model.fit(binary, show_progress=False)

    ways = {
        "undersong": lambda: relations.shared_listeners(heard, threshold=1, top=20),
        "implicit": theirs,
    }
    sides = measure(ways, rounds=2)
    yield case("co-listening", f"{plays:,} plays of {artists:,} artists", sides)


def search(quick):
    """Exact and approximate neighbours of many items, beside faiss."""
    import faiss

    from undersong.retrieval import approximate
    from undersong.retrieval.index import by_cosine

    faiss.omp_set_num_threads(1)
    n, width, k = (2_003, 16, 20) if quick else (61_584, 128, 200)
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(n // 50, width))
    near = centres[generator.integers(n // 50, size=n)] + generator.normal(size=(n, width))
    vectors = unit(near.astype(np.float32))
    items = Embeddings(tuple(map(str, range(n))), vectors)
    rows, everyone = np.sort(generator.choice(n, 256, replace=False)), np.arange(n)
    flat = faiss.IndexFlatIP(width)
    flat.add(vectors)
    ways = {
        "undersong": lambda: by_cosine(items, rows, among=everyone, k=k),
        "faiss flat": lambda: flat.search(vectors[rows], k + 1),
        "limit: the product": lambda: vectors[rows] @ vectors.T,
    }
    sides = measure(ways, rounds=3 if quick else 5)
    share = sides["limit: the product"]["seconds"] / sides["undersong"]["seconds"]
    size = f"256 of {n:,} items, width {width}, k = {k}"
    yield case("exact search", size, sides, check=f"{share:.0%} of the matmul limit")
    k = 10
    exact = by_cosine(items, rows, among=everyone, k=k).neighbours
    cells, inverted = approximate.make(vectors), faiss.IndexIVFFlat(flat, width, 1)
    inverted = faiss.index_factory(width, f"IVF{n // 250},Flat", faiss.METRIC_INNER_PRODUCT)
    inverted.train(vectors)
    inverted.add(vectors)
    inverted.nprobe = 16
    graph = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors)
    graph.hnsw.efSearch = 64
    allowed = np.ones(n, dtype=bool)
    ways = {
        "undersong": lambda: cells.search(items, rows, allowed=allowed, k=k).neighbours,
        "faiss IVF": lambda: inverted.search(vectors[rows], k + 1)[1],
        "faiss HNSW": lambda: graph.search(vectors[rows], k + 1)[1],
    }
    found = [
        f"{name} {np.mean([np.isin(a, b).mean() for a, b in zip(exact, way(), strict=True)]):.3f}"
        for name, way in ways.items()
    ]
    sides = measure(ways, rounds=3 if quick else 5)
    size = f"256 of {n:,} items, width {width}, k = {k}"
    yield case("approximate search", size, sides, check=f"recall: {', '.join(found)}")


def judging(quick):
    """NDCG, MAP and recall of rankings, beside ir-measures."""
    import ir_measures

    from undersong.metrics import accuracy

    queries, n = (31, 203) if quick else (962, 2_003)
    generator = np.random.default_rng(0)
    ranks = [np.sort(1 + generator.choice(n, 17, replace=False)) for _ in range(queries)]
    names = [f"q{x}" for x in range(queries)]
    truth = [
        ir_measures.Qrel(q, str(r), 1) for q, found in zip(names, ranks, strict=True) for r in found
    ]
    run = [ir_measures.ScoredDoc(q, str(r), -float(r)) for q in names for r in range(1, n + 1)]
    wanted = [ir_measures.AP, ir_measures.nDCG, ir_measures.nDCG @ 10, ir_measures.AP @ 10]
    whole = ir_measures.calc_aggregate(wanted, truth, run)
    ours = accuracy(ranks, k=10)
    apart = max(
        abs(whole[one] - ours[other].mean())
        for one, other in zip(wanted, ("map", "ndcg", "ndcg@10", "map@10"), strict=True)
    )
    ways = {
        "undersong": lambda: accuracy(ranks, k=10),
        "ir-measures": lambda: ir_measures.calc_aggregate(wanted, truth, run),
    }
    sides = measure(ways, rounds=3)
    size = f"{queries:,} rankings of {n:,} items"
    yield case("metrics", size, sides, check=f"means differ by {apart:.1e}")


STAGES = {x.__name__: x for x in (log_mel, loss, graph_step, training, listeners, search, judging)}
