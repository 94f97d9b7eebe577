"""Does CbRM find songs of composers it was not trained on? Measured on Lieder, 446 real files.

    python benchmarks/lieder.py DATA/lieder WORK [--folds 9] [--steps 240] [--tags 0]

With ``--steps 0`` only the start of CbRM and the other methods are measured, nothing is trained.

Every composer is held out once: each fold trains on the others, with one more fold to validate, and
its songs then look for their 10 nearest among all 446. A question is answered if one of these is of
the same composer. Intervals are 95 %, from 2,000 bootstrap draws of composers, for songs of one
composer are no independent questions. A fold that was trained before is not trained again while
WORK stands; the extracted sound stays there as well.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from undersong.audio.extract import extract
from undersong.audio.shards import LogMels
from undersong.catalogue.tables import Catalogue
from undersong.embeddings import unit
from undersong.importers.tables.conversion import import_tables
from undersong.models.content.network import AudioEncoder, ContentSettings, of_track
from undersong.models.content.training import embed_content
from undersong.relations import Task
from undersong.training import Compute, Schedule

MAPPING = Path(__file__).parent.parent / "examples" / "lieder.toml"
NEIGHBOURS = 10
DRAWS = 2000


def main() -> None:
    """Train every fold, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--folds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=ContentSettings().training.steps)
    parser.add_argument("--tags", type=float, default=ContentSettings().tags)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = import_tables(MAPPING, data=options.data)[0]
    catalogue = replace(catalogue, extracted=options.work / "log-mel")
    composer = np.unique(catalogue.tracks["artist"], return_inverse=True)[1]
    mels = extract(catalogue, options.work / "log-mel").done
    fold = folds(composer, count=options.folds, seed=options.seed)
    found = {
        **({"CbRM": learned(catalogue, composer, fold, options)} if options.steps else {}),
        "CbRM untrained": started(mels, composer, fold, seed=options.seed),
        "mean of 20 MFCCs": answered(mean_mfcc(catalogue), composer),
        "mean log-mel": answered(mean_log_mel(mels), composer),
        "random": chance(composer),
    }
    compare(found, composer, seed=options.seed)


def folds(composer: NDArray[np.int64], *, count: int, seed: int) -> NDArray[np.int64]:
    """Put every composer in one of ``count`` folds, (n,) composers of songs -> (n,) folds."""
    order = np.random.default_rng(seed).permutation(composer.max() + 1)
    return np.argsort(order)[composer] % count


def started(
    mels: LogMels, composer: NDArray[np.int64], fold: NDArray[np.int64], *, seed: int
) -> NDArray[np.float64]:
    """Which songs the start of CbRM answers: whitened by the other composers, not trained, (n,)."""
    torch.manual_seed(seed)
    model = AudioEncoder(ContentSettings()).eval()
    rows = range(len(composer))
    with torch.no_grad():
        found = [model.summary(torch.from_numpy(mels.read(x).astype(np.float32))) for x in rows]
        means = torch.stack([x.mean(dim=0) for x in found])
        hits = np.empty(len(composer))
        for held in range(fold.max() + 1):
            trains = torch.from_numpy((fold != held) & (fold != (held + 1) % (fold.max() + 1)))
            model.whiten(means[trains], torch.from_numpy(composer)[trains])
            heard = [model.plain((x - model.usual) @ model.whitening) for x in found]
            vectors = torch.stack([of_track(F.normalize(x, dim=1)) for x in heard]).numpy()
            hits[fold == held] = answered(vectors, composer)[fold == held]
    return hits


def learned(
    catalogue: Catalogue,
    composer: NDArray[np.int64],
    fold: NDArray[np.int64],
    options: argparse.Namespace,
) -> NDArray[np.float64]:
    """Which songs CbRM answers, each asked of a model that never saw its composer, (n,)."""
    row = {artist: place for place, artist in enumerate(catalogue.ids("artist"))}
    fold_of = np.empty(len(row), dtype=np.int64)
    fold_of[[row[x] for x in catalogue.tracks["artist"]]] = fold
    schedule = ContentSettings().training
    training = replace(
        schedule, steps=options.steps, validate_every=min(schedule.validate_every, options.steps)
    )
    hits = np.empty(len(composer))
    for held in range(options.folds):
        parts = np.full(len(row), "train", dtype="U10")
        parts[fold_of == (held + 1) % options.folds] = "validation"
        parts[fold_of == held] = "test"
        made = train_fold(catalogue, parts, training, options=options, held=held)
        asked = fold == held
        hits[asked] = answered(made, composer)[asked]
        print(f"fold {held + 1}: {hits[asked].mean():.3f} of {asked.sum()} songs", flush=True)
    return hits


def train_fold(
    catalogue: Catalogue,
    splits: NDArray[np.str_],
    training: Schedule,
    *,
    options: argparse.Namespace,
    held: int,
) -> NDArray[np.float32]:
    """E_C of all songs by a model trained without one fold, (n, width)."""
    folder = f"seed-{options.seed}-fold-{held}-of-{options.folds}-tags-{options.tags}"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = embed_content(
        Task(catalogue, "artist", splits),
        settings=ContentSettings(tags=options.tags, training=training),
        compute=Compute(options.seed, device, options.work / folder),
    )
    if made is None or made.tracks.ids != catalogue.ids("track"):
        raise SystemExit("some files gave no sound; get the data again")
    scores = ", ".join(f"{step}: {score:.3f}" for step, score, _ in made.outcome.scores)
    print(f"  NDCG@200 of validation: {scores}; kept {made.outcome.best_score:.3f}", end="; ")
    return made.tracks.vectors


def answered(vectors: NDArray[np.float32], composer: NDArray[np.int64]) -> NDArray[np.float64]:
    """Say whether one of the nearest of each song is of the same composer, (n,) 0 or 1."""
    length = unit(vectors)
    similarity = length @ length.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]
    return (composer[nearest] == composer[:, None]).any(axis=1).astype(np.float64)


def chance(composer: NDArray[np.int64]) -> NDArray[np.float64]:
    """How likely one of ten songs drawn at random is of the same composer, (n,)."""
    others = len(composer) - 1
    same = np.bincount(composer)[composer] - 1
    misses = [(others - same - k) / (others - k) for k in range(NEIGHBOURS)]
    return np.asarray(1 - np.prod(misses, axis=0), dtype=np.float64)


def mean_mfcc(catalogue: Catalogue) -> NDArray[np.float32]:
    """Mean of 20 MFCCs over each whole file, as librosa computes them, (n, 20)."""
    root = catalogue.audio_root or Path()
    means = []
    for path in catalogue.tracks["path"]:
        waveform, rate = librosa.load(root / path, sr=None, mono=True)
        means.append(librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=20).mean(axis=1))
    return np.array(means, dtype=np.float32)


def mean_log_mel(mels: LogMels) -> NDArray[np.float32]:
    """Mean over time of what CbRM hears, (n, 128)."""
    chunks = (mels.read(row).astype(np.float32) for row in range(len(mels.ids)))
    return np.array([x.mean(axis=(0, 2)) for x in chunks])


def compare(
    found: dict[str, NDArray[np.float64]], composer: NDArray[np.int64], *, seed: int
) -> None:
    """Print the share of songs answered, and how far the first is ahead, with intervals."""
    songs = np.bincount(composer)
    sums = {name: np.bincount(composer, weights=x) for name, x in found.items()}
    drawn = np.random.default_rng([seed, 1]).integers(len(songs), size=(DRAWS, len(songs)))
    size = songs[drawn].sum(axis=1)

    def interval(of_composer: NDArray[np.float64]) -> str:
        low, high = np.quantile(of_composer[drawn].sum(axis=1) / size, (0.025, 0.975))
        return f"{of_composer.sum() / songs.sum():7.3f} [{low:6.3f}, {high:6.3f}]"

    first = next(iter(sums))
    print(f"{'same composer in 10':<20} {'share':>7} {'':<18} {first} ahead by")
    for name, of_composer in sums.items():
        print(f"{name:<20} {interval(of_composer)}   {interval(sums[first] - of_composer)}")


if __name__ == "__main__":
    main()
