"""What each part of GRM and CbRM is worth: rows of changed settings, each beside the default."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import embeddings
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings, unit
from undersong.evaluation.method import Method, from_embeddings, from_vectors
from undersong.features import KNOWN_OF_EACH
from undersong.lab.reproduction import methods
from undersong.lab.reproduction.datasets import (
    DataSet,
    ModelAnswers,
    ask,
    read_answers,
    write_answers,
)
from undersong.lab.reproduction.experiment import Plan, measure
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.methods import (
    SeedRun,
    learn_content,
    make_general,
    method_of,
    vectors_of,
)
from undersong.lab.reproduction.outcomes import ALL, COLD, LONG_TAIL, Estimate, Results
from undersong.losses import MultiSimilarity, cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent
from undersong.relations import LEARNED, block
from undersong.settings import with_changes
from undersong.training import Schedule, anchors_with_partners, train

MEAN = "mean of 5"
POOLINGS = ("attention", "1 prototype", *(f"{x} prototypes" for x in (2, 3, 4)))
MOST = 20  # tracks of an artist that take part, the most popular ones
ROUNDS = 10  # of k-means
SCHEDULE = Schedule(steps=120, learning_rate=3e-3, validate_every=20, average=0.9)
LOSS = MultiSimilarity(alpha=4.0, beta=15.0, gamma=0.3, margin=0.5)


@dataclass(frozen=True)
class Bags:
    """E_C of the tracks of each artist.

    Parameters
    ----------
    tracks : (n, MOST, d) float32, zeros where an artist has fewer
    there : (n, MOST) bool
        An artist without a track, but with an E_C of its own, has that in place of one.
    """

    tracks: NDArray[np.float32]
    there: NDArray[np.bool_]


def bags_of(catalogue: Catalogue, *, tracks: Embeddings, artists: Embeddings) -> Bags:
    """Gather E_C of every artist's most popular tracks."""
    n, width = len(catalogue.artists), tracks.vectors.shape[1]
    row = {item: place for place, item in enumerate(catalogue.ids("artist"))}
    values = np.zeros((n, MOST, width), dtype=np.float32)
    count = np.zeros(n, dtype=np.int64)
    known = catalogue.tracks.select("id", "artist", "popularity").sort(
        "popularity", descending=True, nulls_last=True, maintain_order=True
    )
    for item, artist in known.select("id", "artist").iter_rows():
        place = tracks.index.get(item)
        if place is not None and count[row[artist]] < MOST:
            values[row[artist], count[row[artist]]] = tracks.vectors[place]
            count[row[artist]] += 1
    own, missing = artists.align(catalogue.ids("artist"))
    alone = (count == 0) & ~missing
    values[alone, 0], count[alone] = own[alone], 1
    return Bags(values, np.arange(MOST) < count[:, None])


def pooled(seed_run: SeedRun, name: str, progress: Progress) -> Method:
    """Compare artists by the mean of E_C of their tracks, or by one of ``POOLINGS``."""
    run, seed, task = seed_run.run, seed_run.seed, seed_run.task
    tracks, artists = (run.embeddings(x, "content") for x in ("track", "artist"))
    bags = bags_of(task.catalogue, tracks=tracks, artists=artists)
    if name == MEAN:
        return mean_pooling(bags, top=seed_run.settings.content.top)
    if name != "attention":
        return prototypes(bags, count=int(name.split()[0]), seed=seed)
    queries, truth = task.held_out
    return attention_pooling(
        bags,
        task.related("train"),
        queries=queries,
        truth=truth,
        seed=seed,
        schedule=SCHEDULE,
        progress=progress,
    )


def mean_pooling(bags: Bags, *, top: int) -> Method:
    """Equation 1: the mean of the first ``top`` tracks of each artist."""
    there = bags.there & (np.arange(MOST) < top)
    vectors = (bags.tracks * there[..., None]).sum(axis=1).astype(np.float32)
    return from_vectors(f"mean of {top}", vectors, missing=_empty(there))


def prototypes(bags: Bags, *, count: int, seed: int) -> Method:
    """Describe an artist by 1 to ``count`` prototypes; two are as similar as their best pair.

    Prototypes are the centres of spherical k-means of the artist's tracks, at most one a track.
    """
    centres, there = _k_means(bags, count, seed)
    owner, place = np.nonzero(there)
    flat = unit(centres[owner, place])  # (p, d), artist by artist
    starts = np.searchsorted(owner, np.arange(len(there)))
    missing = _empty(there)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        similarities = np.full((len(rows), len(there)), -np.inf, dtype=np.float32)
        for turn, row in enumerate(rows):
            if missing[row]:
                similarities[turn] = 0
                continue
            best = (flat[owner == row] @ flat.T).max(axis=0)
            similarities[turn, ~missing] = np.maximum.reduceat(best, starts[~missing])
        return similarities

    return Method(f"{count} prototypes", scores)


def attention_pooling(
    bags: Bags,
    related: sparse.csr_matrix,
    *,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    seed: int,
    schedule: Schedule = SCHEDULE,
    progress: Progress = silent,
) -> Method:
    """Weigh the tracks of an artist by a learned attention (Ilse et al. 2018), then average.

    Only the weights are learned, from relations between training artists, so that nothing but
    the pooling differs from the mean. Validation artists decide when to stop.
    """
    torch.manual_seed(seed)
    model = _Attention(bags.tracks.shape[2])
    tracks, there = torch.from_numpy(bags.tracks), torch.from_numpy(bags.there)
    heard = ~_empty(bags.there)
    pairs_of = related.tocoo()
    both = heard[pairs_of.row] & heard[pairs_of.col]
    cells = (pairs_of.data[both], (pairs_of.row[both], pairs_of.col[both]))
    visible = sparse.csr_matrix(cells, shape=related.shape)

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(generator, visible, anchors=256, partners=1)
        embedded = model(tracks[torch.from_numpy(rows)], there[torch.from_numpy(rows)])
        pairs = torch.from_numpy(block(visible, rows))
        return multi_similarity(cosine(embedded), pairs, ~pairs, LOSS)

    def validate(now: nn.Module) -> float:
        return cold_ndcg(now(tracks, there).numpy(), queries, truth)

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            loss=loss,
            validate=validate,
            schedule=schedule,
            seed=seed,
            checkpoint=Path(folder) / "attention.safetensors",
            stage="attention",
            progress=progress,
        )
    with torch.no_grad():
        vectors = model(tracks, there).numpy()
    return from_vectors("attention", vectors, missing=~heard)


def without_hubs(method: Method, n: int, *, near: int = 10, size: int = 256) -> Method:
    """Cross-domain similarity local scaling (CSLS): take from each score what hubs get anyway.

    ``2 * score - r(query) - r(candidate)``, where r is the mean score of an item's ``near``
    nearest. What cannot be scored stays so.

    Source
    ------
    Conneau et al., Word Translation Without Parallel Data, ICLR 2018, section 2.3.
    """
    density = np.zeros(n, dtype=np.float32)
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        others = method.scores(rows).copy()
        others[np.arange(len(rows)), rows] = -np.inf
        best = np.partition(others, n - near, axis=1)[:, n - near :]
        density[rows] = np.where(np.isfinite(best), best, 0).mean(axis=1)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(2 * method.scores(rows) - density[rows, None] - density, dtype=np.float32)

    return replace(method, name=f"{method.name}, CSLS", scores=scores)


def _empty(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(~there.any(axis=1), dtype=bool)


class _Attention(nn.Module):
    """A weight for each track from its own vector; begins as the mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(width, 32), nn.Linear(32, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, tracks: Tensor, there: Tensor) -> Tensor:
        """Pool bags, (n, t, d) and (n, t) bool -> (n, d), length 1; zeros for an empty bag."""
        logits = self.score(torch.tanh(self.hidden(tracks)))[..., 0]
        weights = torch.softmax(logits.masked_fill(~there, -1e9), dim=1) * there
        return F.normalize((weights[..., None] * tracks).sum(dim=1), dim=1)


def _k_means(bags: Bags, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Spherical k-means of every bag at once, (n, count, d), and which centres are used.

    It begins with tracks far from each other: the first, then in turn the one least similar to
    the centres there are.
    """
    n, most, width = bags.tracks.shape
    centres = np.zeros((n, count, width), dtype=np.float32)
    used = np.zeros((n, count), dtype=bool)
    generator = np.random.default_rng([seed, count])
    best = np.where(bags.there, -generator.random((n, most)) * 1e-6, np.inf)
    for place in range(count):
        chosen = best.argmin(axis=1)
        used[:, place] = bags.there.sum(axis=1) > place
        centres[:, place] = bags.tracks[np.arange(n), chosen]
        near = np.einsum("ntd,nd->nt", bags.tracks, centres[:, place])
        best = np.where(bags.there, np.maximum(best if place else near, near), np.inf)
    for _ in range(ROUNDS):
        similarity = np.einsum("ntd,nkd->ntk", bags.tracks, centres)
        similarity[np.broadcast_to(~used[:, None], similarity.shape)] = -np.inf
        mine = np.eye(count, dtype=np.float32)[similarity.argmax(axis=2)] * bags.there[..., None]
        sums = np.einsum("ntk,ntd->nkd", mine, bags.tracks)
        filled = mine.sum(axis=1) > 0
        centres = np.where(filled[..., None], sums, centres).astype(np.float32)
        centres = unit(centres.reshape(-1, width)).reshape(centres.shape)
    return centres, used


Changes = Mapping[str, Any]
GENERAL, CONTENT, CONTENT_POOLING, HUBS = "general", "content", "pooling", "hubs"
DEFAULT, CBRM = "GRM", "CbRM"
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Ablation:
    """One row.

    Parameters
    ----------
    name : as tables print it
    choices : changed settings by dotted path; of several the one that validates best counts
    without : sources that GRM does not read
    way : "general" trains GRM again, "content" CbRM, "pooling" another way from tracks to artists
        on the same E_C, "hubs" scores the default GRM otherwise
    """

    name: str
    choices: tuple[Changes, ...] = ({},)
    without: tuple[str, ...] = ()
    way: str = GENERAL

    @property
    def tries(self) -> tuple["Try", ...]:
        """What is trained for this row, one a choice."""
        numbers = range(1, len(self.choices) + 1)
        names = [f"{self.name} {x}" for x in numbers] if len(numbers) > 1 else [self.name]
        return tuple(Try(self, *x) for x in zip(names, self.choices, strict=True))


@dataclass(frozen=True)
class Try:
    """One choice of a row: how it is named, and what it changes."""

    row: Ablation
    name: str
    changes: Changes

    @property
    def file(self) -> str:
        """Name of its file; other changes under the same name have another file."""
        about = json.dumps([self.changes, self.row.without, self.row.way], sort_keys=True)
        return f"ablation {self.name} {hashlib.sha256(about.encode()).hexdigest()[:8]}"

    @property
    def note(self) -> str:
        """What it changes, for the reader of a table."""
        changes = [f"{path} = {value}" for path, value in self.changes.items()]
        return ", ".join([*changes, *(f"without {x}" for x in self.row.without)])


# The equal budget: six settings for every loss, around what its own papers recommend.
MULTI_SIMILARITY = (
    (2.0, 12.0, 0.8),
    (2.0, 12.0, 0.6),
    (2.0, 20.0, 0.5),
    (4.0, 15.0, 0.3),
    (1.0, 12.0, 0.6),
    (2.0, 50.0, 0.5),
)
KNOWN = "loss.known"


def _other_loss(form: str, name: str, values: Sequence[float]) -> tuple[Changes, ...]:
    return tuple({"loss.form": form, f"loss.{name}": x} for x in values)


LOSSES: Mapping[str, tuple[Changes, ...]] = {
    "multi-similarity": tuple(
        {f"{KNOWN}.alpha": alpha, f"{KNOWN}.beta": beta, f"{KNOWN}.gamma": gamma}
        for alpha, beta, gamma in MULTI_SIMILARITY
    ),
    "contrastive": _other_loss("contrastive", "margin", (-0.1, 0.0, 0.1, 0.2, 0.3, 0.5)),
    "triplet": _other_loss("triplet", "margin", (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)),
    "InfoNCE": _other_loss("info-nce", "temperature", (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)),
    "1.5-entmax": _other_loss("entmax", "temperature", (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)),
}


def ablations_of(catalogue: Catalogue, kind: Kind) -> tuple[Ablation, ...]:
    """List every row that a catalogue allows; the default comes first."""
    sources = sources_in(catalogue, kind)
    rows = [
        Ablation(DEFAULT),
        *(Ablation(f"lambda {x:g}", ({"loss.prior_weight": x},)) for x in LAMBDAS),
        Ablation("equation 2 as printed", ({"loss.form": "as printed"},)),
        Ablation("no mining", ({f"{KNOWN}.margin": -1.0},)),
        *(Ablation(f"{name}, best of 6", choices) for name, choices in LOSSES.items()),
        *(Ablation(f"without {source}", without=(source,)) for source in sources),
        Ablation("no modality dropout", ({"hide_source": 0.0, "hide_interaction": 0.0},)),
        Ablation("no feature crossing", ({"crossing": False},)),
        Ablation("fields crossed by inner products", ({"product": "inner"},)),
        Ablation("no third layer", ({"weigh_fields": False},)),
        Ablation("no linear skip", ({"skip": False},)),
        Ablation("long tail as negatives", ({"tail_is_negative": True},)),
        Ablation("graded prior", ({"graded": True},)),
        Ablation("R_A alone, nothing at one remove", ({"indirect": 0},)),
        Ablation("GRM, CSLS", way=HUBS),
    ]
    if catalogue.pairs(kind)["source"].n_unique() > 1:
        rows.append(Ablation("sources by learned reliability", ({"reliability": LEARNED},)))
    if catalogue.features:
        rows += _content_rows(catalogue, played="interaction" in sources)
    if kind == "artist" and len(catalogue.tracks) and sources[0] == "content":
        rows += [Ablation(name, way=CONTENT_POOLING) for name in (MEAN, *POOLINGS)]
    return tuple(rows)


def _content_rows(catalogue: Catalogue, *, played: bool) -> Iterator[Ablation]:
    """CbRM with other losses, and with other artists taken for similar."""
    on_tags: Changes = {"supervision": "tags"}
    rows: dict[str, tuple[Changes, ...]] = {
        f"{name}, best of 6": tuple(
            {path.removeprefix("loss."): value for path, value in choice.items()}
            for choice in LOSSES[name]
        )
        for name in ("triplet", "InfoNCE", "1.5-entmax")
    }
    if any(x.type != "number" and not x.withheld for x in catalogue.fields):
        rows["tags"] = (on_tags,)
        rows["tags, triplet, best of 6"] = tuple(
            {**choice, **on_tags} for choice in rows["triplet, best of 6"]
        )
    if played:
        rows["listening"] = ({"supervision": "listening"},)
    yield Ablation(CBRM, way=CONTENT)
    yield from (Ablation(f"{CBRM}, {x}", y, way=CONTENT) for x, y in rows.items())


def sources_in(catalogue: Catalogue, kind: Kind) -> tuple[str, ...]:
    """Name the sources that GRM may read: E_C, E_U and the fields that are not withheld."""
    heard = bool(catalogue.features) or catalogue.tracks["path"].count() > 0
    played = len(catalogue.played(kind).head(1).collect()) > 0
    learned = [x for x, there in zip(KNOWN_OF_EACH, (heard, played), strict=True) if there]
    return (*learned, *(x.name for x in catalogue.fields_of(kind) if not x.withheld))


def ablate(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Results, ...]:
    """Measure every row of each set; its results name a row as its model.

    Raises
    ------
    UndersongError
        As ``measure`` does.
    """
    return measure(plan, sets, jobs_of=_jobs, read_answers=_read_answers, progress=progress)


def _jobs(seed_run: SeedRun) -> Iterator[Job]:
    yield seed_run.job("train", 14, seed_run.home / "run" / "current.json", methods.train)
    for row in ablations_of(seed_run.task.catalogue, seed_run.task.kind):
        seconds = {GENERAL: 12, CONTENT: 1}.get(row.way, 2)
        for one in row.tries:
            work = partial(_answer, one=one)
            yield seed_run.job(one.name, seconds, seed_run.answers(one.file), work, "train")


def _answer(seed_run: SeedRun, progress: Progress, *, one: Try) -> None:
    """Train what a row tries, ask it, and leave the answers alone behind."""
    method = _method(seed_run, one, progress)
    method = replace(method, note=", ".join(x for x in (one.note, method.note) if x))
    write_answers(ask(method, seed_run.questions()), seed_run.answers(one.file))
    seed_run.vectors(one.file).unlink(missing_ok=True)


def _method(seed_run: SeedRun, one: Try, progress: Progress) -> Method:
    kind, ids = seed_run.task.kind, seed_run.task.ids
    default = from_embeddings(DEFAULT, seed_run.run.embeddings(kind, "judged"), ids)
    if one.row.way == HUBS:
        return without_hubs(default, len(ids))
    if one.row.way == CONTENT_POOLING:
        return pooled(seed_run, one.name, progress)
    if one.row.way == CONTENT:
        return _content_method(seed_run, one, progress)
    general, without = seed_run.settings.general, one.row.without
    settings = with_changes(general, one.changes, where="[general]")
    if settings == general and not without:
        return default
    path = seed_run.vectors(one.file)
    if not path.exists():
        make_general(seed_run, one.file, settings=settings, without=without, progress=progress)
    return from_embeddings(one.row.name, embeddings.read(path), ids)


def _content_method(seed_run: SeedRun, one: Try, progress: Progress) -> Method:
    """Compare by E_C of CbRM as one row trains it; the note says where nothing was gained."""
    ids, default = seed_run.task.ids, seed_run.settings.content
    settings = with_changes(default, one.changes, where="[content]")
    if settings == default:
        return method_of(seed_run, CBRM)
    content = learn_content(seed_run, settings=settings, progress=progress)
    learned = any(x.learned for x in content.choices.values())
    note = "" if learned else "no better than its start, which stays"
    return from_embeddings(one.row.name, vectors_of(content, seed_run), ids, note=note)


CHOOSING = "ndcg@200"  # cold, on the items that ask: the best of several tries is the best by it


def _read_answers(by_seed: Sequence[SeedRun]) -> dict[str, Mapping[int, ModelAnswers]]:
    """Read what every row answered: of several tries the one that validates best."""

    def validated(answers: Mapping[int, ModelAnswers]) -> float:
        scores = [x.pools[COLD].accuracy[CHOOSING] for x in answers.values()]
        return float(np.mean([np.nanmean(x) for x in scores]))

    best: dict[str, Mapping[int, ModelAnswers]] = {}
    for row in ablations_of(by_seed[0].task.catalogue, by_seed[0].task.kind):
        tried = [{x.seed: read_answers(x.answers(one.file)) for x in by_seed} for one in row.tries]
        best[row.name] = max(tried, key=validated)
    return best


COLUMNS = (
    ("cold NDCG@200", "ndcg@200", ALL),
    ("cold NDCG@10", "ndcg@10", ALL),
    ("withheld tail", "withheld_consistent@10", LONG_TAIL),
)


@dataclass(frozen=True)
class Row:
    """One ablation: its numbers by column, and how far each is above the row beside it."""

    name: str
    numbers: tuple[Estimate | None, ...]
    differences: tuple[Estimate | None, ...]
    beside: str
    note: str

    @property
    def differs(self) -> bool:
        """Whether the interval of any difference leaves out 0."""
        return any(x is not None and (x.above_0 or x.below_0) for x in self.differences)


def rows_of(results: Results) -> tuple[Row, ...]:
    """Return each row with its differences: to the default, or of a pooling to the mean."""
    rows = []
    for name in results.answers:
        beside = MEAN if name in (MEAN, *POOLINGS) else CBRM if name.startswith(CBRM) else DEFAULT
        numbers = (results.number(name, x, pool=COLD, of=of) for _, x, of in COLUMNS)
        differences = (
            None if name == beside else results.difference(name, beside, x, pool=COLD, of=of)
            for _, x, of in COLUMNS
        )
        note = results.notes[name]
        rows.append(Row(name, tuple(numbers), tuple(differences), beside, note))
    return tuple(rows)
