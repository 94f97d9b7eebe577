"""Does a song find others of its artist, of artists that nothing was learned from? (section 2.1).

The one question that needs no relations. Where no source was learned, each fifth of the artists
asks a start that was whitened by the others. Where one was, artists of the split ask, which
learning never saw.
"""

from collections.abc import Sequence

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from undersong import metrics, relations
from undersong.audio.extract import extract
from undersong.audio.shards import LogMels
from undersong.catalogue import rows_of
from undersong.embeddings import Embeddings, beside, unit
from undersong.evaluation.results import SAME_ARTIST, Interval, Number, Protocol, Slice
from undersong.features import AUDIO, CONTENT
from undersong.models.content.inputs import Clips, new_encoder, read_clips
from undersong.models.content.network import ContentModel, load_content, settle
from undersong.progress import Progress, silent
from undersong.relations import Task
from undersong.runs import Run

MEANING = (
    "Does a song find others of its artist? Each track of an artist that nothing was learned from "
    "is a query, all tracks are candidates. Intervals are over artists."
)
NOTES = {
    "MFCC": "mean and spread of 20 cepstral coefficients of the sound",
    "start": "sound and features as they are, whitened by how tracks of one artist differ",
    "learned": "E_C as it was learned",
}
FOLDS = 5
MOST = 5000  # tracks that are compared at most, of whole artists
SHORT = 5  # answers of the precision
Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


def judge_same_artist(
    run: Run,
    task: Task,
    *,
    split: str,
    k: int,
    resamples: int,
    seed: int,
    progress: Progress = silent,
) -> tuple[Protocol, tuple[tuple[str, str], ...]] | None:
    """Ask tracks for others of their artist; None where no two tracks of one artist are heard.

    Returns
    -------
    the protocol, and names and notes of its rows
    """
    catalogue = task.catalogue
    if not run.has(file := f"weights/{CONTENT}.safetensors"):
        return None
    models = load_content(run.file(file))
    clips = [read_clips(catalogue, x, work=run.folder / "work") for x in models]
    artist_of = rows_of(catalogue.tracks["artist"], catalogue.artists["id"])
    tracks = _compared(clips, artist_of, seed=seed)
    artist = artist_of[tracks]
    learned = any(x["learned"] for x in run.manifest.get("hearing", {}).values())
    fold = np.random.default_rng([seed, 5]).permutation(len(task.splits)) % FOLDS
    held = np.where(task.within(split), 0, -1) if learned else fold
    truth = relations.same_or_similar_artist(artist, _nobody(len(task.splits)))
    queries = np.flatnonzero((truth.getnnz(axis=1) > 0) & (held[artist] >= 0))
    if not len(queries):
        return None
    generator = np.random.default_rng(seed)
    answers = {"random": generator.standard_normal((len(tracks), 64), dtype=np.float32)}
    if any(x.source == AUDIO for x in models):
        folder = catalogue.extracted or run.folder / "work" / "log-mel"
        mels = extract(catalogue, folder, retry=False, progress=progress).done
        answers["MFCC"] = _mfcc(mels, catalogue.ids("track"))[tracks]
    scores = {name: _scores(x, queries, truth, k=k) for name, x in answers.items()}
    scores["start"] = np.empty((len(queries), 3))
    for number in range(held.max() + 1):
        progress("evaluate, same artist", number, held.max() + 1)
        asks = held[artist[queries]] == number
        vectors = _start(task, models, clips, trains=held != number)[tracks]
        scores["start"][asks] = _scores(vectors, queries[asks], truth, k=k)
    if learned:
        made: Embeddings = run.embeddings("track", CONTENT)
        vectors = made.align(catalogue.ids("track"))[0][tracks]
        scores["learned"] = _scores(vectors, queries, truth, k=k)
    names = (f"hit@{k}", f"precision@{SHORT}", "map")
    numbers = {
        name: dict(zip(names, _numbers(x, artist[queries], resamples, seed), strict=True))
        for name, x in scores.items()
    }
    whole = Slice("all", len(queries), len(queries), numbers)
    nobody = Slice("long tail", 0, 0, {})
    protocol = Protocol(SAME_ARTIST, MEANING, len(tracks), 0, len(tracks), (whole, nobody))
    return protocol, tuple((x, NOTES[x]) for x in scores if x in NOTES)


def _compared(clips: Sequence[Clips], artist_of: Rows, *, seed: int) -> Rows:
    """Tracks that any source knows, ascending; of very many those of some artists."""
    track = np.unique(np.concatenate([x.track[x.track >= 0] for x in clips]))
    order = np.random.default_rng([seed, 6]).permutation(artist_of.max(initial=0) + 1)
    by_artist = np.argsort(order[artist_of[track]], kind="stable")
    return np.sort(track[by_artist][:MOST])


def _nobody(n: int) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((n, n), dtype=bool)


@torch.no_grad()
def _start(
    task: Task,
    models: Sequence[ContentModel],
    clips: Sequence[Clips],
    *,
    trains: NDArray[np.bool_],
) -> Vectors:
    """E_C of all tracks by starts that were whitened by some artists; zeros where unknown."""
    parts = []
    for model, heard in zip(models, clips, strict=True):
        torch.manual_seed(0)
        start = new_encoder(task.catalogue, model.source, model.settings).eval()
        heard.whiten(start, np.flatnonzero(trains[heard.artist]))
        settle(start)
        rows = np.flatnonzero(heard.track >= 0)
        part = np.zeros((len(task.catalogue.tracks), start.settings.width), dtype=np.float32)
        part[heard.track[rows]] = heard.embed(start, rows)
        parts.append(part)
    return beside(parts)


def _mfcc(mels: LogMels, ids: Sequence[str]) -> Vectors:
    """Mean and spread over time of the first 20 cosines along the bands, standardised, (n, 40)."""
    vectors = np.zeros((len(mels.ids), 40), dtype=np.float32)
    for row in range(len(mels.ids)):
        cosines = scipy.fft.dct(mels.read(row).astype(np.float32), axis=1, norm="ortho")[:, :20]
        vectors[row, :20] = cosines.mean(axis=(0, 2))
        vectors[row, 20:] = cosines.transpose(1, 0, 2).reshape(20, -1).std(axis=1)
    usual = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-6)
    return Embeddings(mels.ids, usual.astype(np.float32)).align(ids)[0]


def _scores(
    vectors: Vectors, queries: Rows, truth: scipy.sparse.csr_matrix, *, k: int
) -> NDArray[np.float64]:
    """Hit among k, precision among 5 and average precision of each query, (q, 3)."""
    ranks = metrics.ranks_of(unit(vectors), queries, truth)
    every = metrics.accuracy(ranks, k=k)
    precision = [np.count_nonzero(x <= SHORT) / SHORT for x in ranks]
    return np.stack([every[f"hit@{k}"], np.array(precision), every["map"]], axis=1)


def _numbers(scores: NDArray[np.float64], artist: Rows, resamples: int, seed: int) -> list[Number]:
    """Means over queries, with the bounds of a bootstrap over artists."""
    _, place, count = np.unique(artist, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng([seed, 7]).integers(len(count), size=(resamples, len(count)))
    numbers = []
    for values in scores.T:
        total = np.bincount(place, weights=values)
        means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        numbers.append(Number(Interval(float(values.mean()), float(low), float(high))))
    return numbers
