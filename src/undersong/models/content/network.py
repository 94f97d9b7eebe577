"""Content-based representation model, CbRM: what a track sounds like -> E_C (section 2.1).

Each source has an encoder that ends in unit vectors: one reads log-mel chunks, the others read
feature vectors that other software has computed. Side by side they are E_C. Equation 1 makes
artists of tracks.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from undersong import settings as settings_file
from undersong.audio.logmel import BANDS, FRAMES, HOP, RATE
from undersong.embeddings import unit
from undersong.errors import ArtifactError, nearest_known
from undersong.features import AUDIO, sources_in
from undersong.io.tensors import read_tensors, write_tensors
from undersong.losses import MultiRelationship, MultiSimilarity
from undersong.settings import LATER
from undersong.training import Schedule

FORMAT = 1
SUPERVISIONS = ("relations", "tags", "listening")

# Seven blocks as in Won et al. (2020), of which the first makes the picture smaller by its stride,
# so that the others cost a fifth: channels, then kernel, stride and pooling in (bands, frames).
BLOCKS = (
    (24, (5, 7), (2, 4), (1, 1)),
    (32, (3, 3), (1, 1), (2, 2)),
    (48, (3, 3), (1, 1), (2, 2)),
    (64, (3, 3), (1, 1), (2, 2)),
    (96, (3, 3), (1, 1), (2, 1)),
    (128, (3, 3), (1, 1), (2, 1)),
    (128, (3, 3), (1, 1), (1, 1)),
)
BANDS_LEFT = BANDS // 2**6  # after the stride and five poolings
SHAPES = 24  # lowest cosines along the bands, in which a summary is kept, as with MFCCs
LEVELS = 4 * SHAPES
TOGETHER = 10  # lowest cosines whose movements are compared with each other
GROUPS = 8  # of neighbouring bands, of which it is known how they pulse
PULSES = 8  # speeds of pulsing, from SLOWEST to FASTEST hertz
SLOWEST, FASTEST = 0.5, 16.0
SUMMARY = LEVELS + SHAPES + TOGETHER * (TOGETHER - 1) // 2 + (GROUPS + 1) * PULSES
SPHERE = 10.0  # tracks
HIDDEN = 256  # width of the encoder of feature vectors
ROUNDING = 1e-5  # of its mean: a feature that varies less is constant but for rounding
EXTREME = 5.0  # standard deviations at which a feature is cut off


@dataclass(frozen=True)
class ContentSettings:
    """What a user may choose and the paper leaves open; see docs/choices.md.

    Parameters
    ----------
    input : "auto", "none", or names of feature matrices and "audio", with commas between
        "auto" takes all that there are, side by side.
    ears : "auto", "none", or names of pretrained ears with commas between
        "auto" takes all that are installed; what they hear are sources like feature matrices.
    width : of E_C, of each source
    top : K of equation 1, the most popular tracks that make an artist
    artists, tracks : artists in a batch at most, and tracks of each
        0 artists stand for 24 with audio and 128 with feature vectors.
    similar : share of those artists that are drawn as pairs of similar artists
    supervision : whom R_C takes for similar artists, beside the same one
        "relations": those of R_A. "tags": the 10 nearest by their words (LSI). "listening": the 10
        that share most listeners.
    frames : of a chunk in one training step, at a random place, 23 ms each, 64 to 172
    gain : decibels by which a chunk gets louder or softer while training, at most; 0 for none
    shift : mel bands by which a chunk gets higher or lower while training, at most; 0 for none
    mask : bands, and frames, hidden at random places of a chunk while training; 0 for none
    noise : standard deviations of noise on feature vectors while training
    dropout : share of the last layer's inputs left out while training, in [0, 1)
    tags : weight of predicting tags while training, beside R_C; 0 for none
    judges : fewest clips of validation artists that must judge whether learning gains anything
        With fewer nothing is learned.
    workers : processes that decode audio; 0 for as many as there are processors
    loss : of the form "multi-similarity", and of "as printed"
    form, margin, temperature : as of ``undersong.losses.MultiRelationship``
    """

    input: str = "auto"
    ears: str = "auto"
    width: int = 256
    top: int = 5
    artists: int = 0
    tracks: int = 4
    similar: float = 0.5
    supervision: str = field(default="relations", metadata=LATER)
    frames: int = 128
    gain: float = 0.0
    shift: int = 0
    mask: int = 0
    noise: float = 0.1
    dropout: float = 0.1
    tags: float = 0.0
    judges: int = 200
    workers: int = 0
    loss: MultiSimilarity = field(
        default=MultiSimilarity(alpha=4.0, beta=15.0, gamma=0.3, margin=0.5)
    )
    form: str = field(default="multi-similarity", metadata=LATER)
    margin: float = field(default=0.3, metadata=LATER)
    temperature: float = field(default=0.07, metadata=LATER)
    training: Schedule = field(
        default=Schedule(steps=240, learning_rate=1e-3, validate_every=40, average=0.97)
    )

    @property
    def whole_loss(self) -> MultiRelationship:
        """The loss on R_C as GRM has it: one of several forms, here without a prior."""
        return MultiRelationship(
            known=self.loss,
            prior_weight=0.0,
            form=self.form,
            margin=self.margin,
            temperature=self.temperature,
        )

    def __post_init__(self) -> None:
        _ = self.whole_loss  # refuses what its form does not allow
        if self.supervision not in SUPERVISIONS:
            raise ValueError(
                f"supervision {self.supervision!r}; {nearest_known(self.supervision, SUPERVISIONS)}"
            )
        if min(self.width, self.top, self.tracks, self.judges) < 1 or not (
            self.artists == 0 or self.artists > 3
        ):
            raise ValueError(
                "width, top, tracks and judges must be 1 or more, artists 4 or more, or 0"
            )
        if not (0 <= self.similar <= 1 and 0 <= self.dropout < 1):
            raise ValueError("similar must be in [0, 1], dropout in [0, 1)")
        if not 64 <= self.frames <= FRAMES:
            raise ValueError(f"frames {self.frames} must be 64 to {FRAMES}")
        if self.gain < 0 or not 0 <= self.shift < BANDS:
            raise ValueError(f"gain must be 0 or more, shift 0 to {BANDS - 1}")
        if min(self.noise, self.tags, self.workers) < 0 or not 0 <= self.mask < self.frames:
            raise ValueError("noise, tags, workers and mask must be 0 or more, mask below frames")


class AudioEncoder(nn.Module):
    """Log-mel chunks -> E_C: a plain summary of each, and 7 blocks of convolution beside it.

    The summary is scaled so that differences between tracks of one artist count for little
    (``whiten``). It is the whole model at first, for the convolutions end in zeros: a few
    hundred tracks are too few to learn them from nothing.
    """

    source = AUDIO
    usual_artists = 24  # in a batch: 96 chunks are some 0.3 s of work on one core
    usual: Tensor
    whitening: Tensor
    waves: Tensor

    def __init__(self, settings: ContentSettings, columns: int = SUMMARY):
        """``columns`` of the summary are read; earlier versions had the first 96."""
        super().__init__()
        self.settings, self.learned = settings, True
        self.register_buffer("waves", cosines(), persistent=False)
        self.register_buffer("usual", torch.zeros(columns))
        self.register_buffer("whitening", torch.eye(columns))
        self.plain = nn.Linear(columns, settings.width, bias=False)
        nn.init.orthogonal_(self.plain.weight)  # angles stay as they are, if the width allows
        self.level = nn.BatchNorm1d(BANDS, affine=False)  # each band at its usual loudness
        channels, blocks = 1, []
        for out, kernel, stride, pool in BLOCKS:
            blocks.append(_block(channels, out, kernel=kernel, stride=stride, pool=pool))
            channels = out
        self.blocks = nn.Sequential(*blocks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = nn.Linear(2 * channels * BANDS_LEFT, settings.width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Dropout(settings.dropout), last)

    def summary(self, log_mel: Tensor) -> Tensor:
        """Sum chunks up, (n, 128, t) -> (n, 237).

        Mean, spread, peak and mean rise of the bands, each in 24 cosines; the mean in 24 finer
        ones; how the first 10 cosines move together, by correlation over time; how strongly 8
        groups of bands, and the rises of all, pulse at 8 speeds.
        """
        mean, rise = log_mel.mean(dim=2), log_mel.diff(dim=2).clamp(min=0)  # where notes begin
        levels = [mean, log_mel.std(dim=2), log_mel.amax(dim=2), rise.mean(dim=2)]
        parts = [level @ self.waves[:, :SHAPES] for level in levels]
        if len(self.usual) > LEVELS:
            bands = log_mel.reshape(-1, GROUPS, BANDS // GROUPS, log_mel.shape[2]).mean(dim=2)
            onsets = F.pad(rise.mean(dim=1, keepdim=True), (1, 0))
            parts += [
                mean @ self.waves[:, SHAPES:],
                movement(self.waves[:, :TOGETHER].T @ log_mel),
                pulses(torch.cat([bands, onsets], dim=1)).flatten(1),
            ]
        return torch.cat(parts, dim=1)

    def whiten(self, summaries: Tensor, artist: Tensor) -> None:
        """Learn which summaries are usual, and how much they differ between tracks of one artist.

        The levels alone and all of the summary are whitened each; their products add.

        Parameters
        ----------
        summaries : (n, 237), one a training track, the mean over its chunks
        artist : (n,) int, row of each track's artist
        """
        scale = summaries.std(dim=0, correction=0).clamp(min=1e-6)
        usual = (summaries - summaries.mean(dim=0)) / scale
        whole = within_class_whitening(usual, artist)
        products = whole @ whole
        levels = within_class_whitening(usual[:, :LEVELS], artist)
        products[:LEVELS, :LEVELS] += levels @ levels
        values, axes = torch.linalg.eigh(products)
        root = axes * values.clamp(min=0).sqrt() @ axes.T
        self.usual.copy_(summaries.mean(dim=0))
        self.whitening.copy_(root / scale[:, None])

    def forward(self, log_mel: Tensor) -> Tensor:
        """Embed chunks of any length from 64 frames, (n, 128, t) -> (n, width), length 1."""
        return F.normalize(self.unscaled(log_mel), dim=1)

    def unscaled(self, log_mel: Tensor) -> Tensor:
        """Embed chunks as ``forward`` does, not yet brought to length 1, float32."""
        with torch.autocast(log_mel.device.type, enabled=False):
            summary = (self.summary(log_mel.float()) - self.usual) @ self.whitening
        if not self.learned:
            return self.plain(summary).float()  # type: ignore[no-any-return]
        picture = self.level(log_mel)[:, None].contiguous(memory_format=torch.channels_last)
        maps = self.blocks(picture).flatten(1, 2)  # (n, channels x bands left, t / 32)
        learned = self.head(torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1))
        return self.plain(summary).float() + learned.float()  # type: ignore[no-any-return]


class VectorEncoder(nn.Module):
    """Feature vectors -> E_C: standardised and whitened, a linear map and a small network.

    As in ``AudioEncoder`` differences between tracks of one artist count for little, and the
    network ends in zeros, so that the model begins as the whitened features.
    """

    usual_artists = 128  # in a batch
    mean: Tensor
    scale: Tensor
    whitening: Tensor

    def __init__(self, source: str, width: int, settings: ContentSettings):
        """``source`` names the feature matrix, ``width`` counts its columns."""
        super().__init__()
        self.source, self.settings = source, settings
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("whitening", torch.eye(width))
        self.plain = nn.Linear(width, settings.width, bias=False)
        # Angles stay as they are, if the width allows, and vectors are about 1 long.
        nn.init.orthogonal_(self.plain.weight, gain=width**-0.5)
        last = nn.Linear(HIDDEN, settings.width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(width, HIDDEN),
            nn.PReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.PReLU(),
            nn.Dropout(settings.dropout),
            last,
        )

    def whiten(self, features: Tensor, artist: Tensor) -> None:
        """Learn which values are usual, and how much they differ between tracks of one artist.

        Where there are more columns than E_C has, those directions stay in which the features
        differ most. They are chosen before: whitened, directions that hardly differ between the
        few tracks of one artist would be the longest, which is chance where columns are many.

        Parameters
        ----------
        features : (n, columns), of the training items
        artist : (n,) int, row of each item's artist
        """
        self.mean.copy_(features.mean(dim=0))
        spread = features.double().std(dim=0, correction=0)
        varies = spread > ROUNDING * self.mean.abs()
        self.scale.copy_(torch.where(varies, spread, torch.inf))
        usual = self._usual(features)
        axes = torch.eye(len(self.mean), device=usual.device)
        if len(self.mean) > self.settings.width:
            axes = torch.linalg.svd(usual.double(), full_matrices=False).Vh.float()
            axes = axes[: self.settings.width]
            nn.init.zeros_(self.plain.weight)
            self.plain.weight.data[: len(axes)] = axes / len(axes) ** 0.5
        whitening = within_class_whitening(usual @ axes.T, artist).float() * len(axes) ** 0.5
        self.whitening.copy_(axes.T @ whitening @ axes)

    def _usual(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.scale).clamp(-EXTREME, EXTREME)

    def forward(self, features: Tensor) -> Tensor:
        """Embed vectors, (n, columns) -> (n, width), length 1."""
        return F.normalize(self.unscaled(features), dim=1)

    def unscaled(self, features: Tensor) -> Tensor:
        """Embed vectors as ``forward`` does, not yet brought to length 1, float32."""
        usual = self._usual(features) @ self.whitening
        if self.training:
            usual = usual + self.settings.noise * torch.randn_like(usual)
        return (self.plain(usual) + self.network(usual)).float()  # type: ignore[no-any-return]


ContentModel = AudioEncoder | VectorEncoder


def settle(model: ContentModel) -> None:
    """Leave the convolutions out from now on if they have learned nothing."""
    if isinstance(model, AudioEncoder):
        model.learned = any(bool(x.any()) for x in model.head.parameters())


def within_class_whitening(usual: Tensor, artist: Tensor) -> Tensor:
    """Return the matrix by which items of one artist differ alike in every direction.

    Parameters
    ----------
    usual : (n, columns), standardised
    artist : (n,) int, row of each item's artist

    Returns
    -------
    (columns, columns) float64, symmetric; vectors become about 1 long

    Source
    ------
    Within-class covariance normalisation: Hatch, Kajarekar, Stolcke (2006). The covariance is
    drawn towards a sphere as by ``SPHERE`` more items; without two items of one artist it is one.
    """
    columns, count = usual.shape[1], torch.bincount(artist)
    usual = usual.double()
    total = usual.new_zeros(len(count), columns).index_add_(0, artist, usual)
    apart = usual - (total / count.clamp(min=1)[:, None])[artist]
    freedom = len(usual) - int(count.count_nonzero())
    spread = apart.square().sum() / max(freedom, 1) / columns if freedom else usual.new_ones(())
    sphere = SPHERE * spread.clamp(min=1e-6) * torch.eye(columns, device=usual.device)
    values, axes = torch.linalg.eigh((apart.T @ apart + sphere) / (freedom + SPHERE))
    matrix: Tensor = axes * values.rsqrt() @ axes.T / columns**0.5
    return matrix


def cosines() -> Tensor:
    """Return the first 48 cosines along the bands (DCT-II), each of length 1, (128, 48)."""
    height = (torch.arange(BANDS, dtype=torch.float64) + 0.5) / BANDS
    waves = torch.cos(torch.pi * height[:, None] * torch.arange(2 * SHAPES))
    return F.normalize(waves, dim=0).float()


def movement(levels: Tensor) -> Tensor:
    """Return the correlation over time of every two of k levels, (n, k, t) -> (n, k (k-1) / 2)."""
    apart = levels - levels.mean(dim=2, keepdim=True)
    apart = apart / (apart.square().mean(dim=2, keepdim=True).sqrt() + 1e-3)
    a, b = torch.triu_indices(levels.shape[1], levels.shape[1], offset=1)
    return (apart[:, a] * apart[:, b]).mean(dim=2)


def pulses(levels: Tensor) -> Tensor:
    """Return how strongly levels pulse at each speed, (n, k, t) -> (n, k, 8): log of the power."""
    frames = levels.shape[2]
    window = torch.hann_window(frames, device=levels.device)
    speeds = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), PULSES, device=levels.device)
    seconds = torch.arange(frames, device=levels.device)[:, None] * (HOP / RATE)
    turns = 2 * math.pi * seconds * speeds
    apart = (levels - levels.mean(dim=2, keepdim=True)) * window
    return torch.log1p((apart @ turns.cos()).square() + (apart @ turns.sin()).square())


def of_track(chunks: Tensor) -> Tensor:
    """Average the unit vectors of a track's chunks to its E_C, (chunks, width) -> (width,)."""
    return F.normalize(chunks.mean(dim=0), dim=0)


def artist_embedding(
    tracks: NDArray[np.float32],
    artist: NDArray[np.int64],
    *,
    popularity: NDArray[np.float64],
    top: int,
    artists: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average the ``top`` most popular tracks of each artist to its E_C (equation 1).

    Parameters
    ----------
    tracks : (n, width) float32
    artist : (n,) int, row of each track's artist
    popularity : (n,) float, NaN where unknown
        Unknown comes after known; equal ones keep the order of the tracks.
    artists : number of artists

    Returns
    -------
    (artists, width) float32, (artists,) bool
        Vectors of length 1 (zeros without a track), and who has no track. Of fewer tracks than
        ``top`` all count. The paper does not scale its mean to length 1; cosine, the similarity of
        all its losses, is the same either way.
    """
    order = np.lexsort((-popularity, artist))  # NaN sorts last; lexsort is stable
    row = artist[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    popular = order[rank < top]
    total = np.zeros((artists, tracks.shape[1]), dtype=np.float32)
    np.add.at(total, artist[popular], tracks[popular])
    count = np.bincount(artist[popular], minlength=artists)
    return unit((total / np.maximum(count, 1)[:, None]).astype(np.float32)), count == 0


def save_content(models: Sequence[ContentModel], path: Path) -> None:
    """Write the weights of the encoders, their settings and sources, as safetensors."""
    about = {
        "sources": json.dumps([(x.source, columns_of(x)) for x in models]),
        "settings": json.dumps(asdict(models[0].settings)),
    }
    tensors = {
        f"{number}.{name}": value
        for number, model in enumerate(models)
        for name, value in model.state_dict().items()
    }
    write_tensors(path, tensors, version=FORMAT, about=about)


def columns_of(model: ContentModel) -> int:
    """Columns of the feature matrix that an encoder reads; 0 for audio."""
    return 0 if isinstance(model, AudioEncoder) else len(model.mean)


def load_content(path: Path) -> tuple[ContentModel, ...]:
    """Read what ``save_content`` wrote, on the CPU and ready to embed; one encoder a source.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    about, tensors = read_tensors(path, version=FORMAT, framework="pt")
    table = json.loads(about["settings"])
    settings = cast(ContentSettings, settings_file.build(ContentSettings, table, f"{path}:"))
    if "source" in about:  # written before there could be several
        tensors = _as_first(tensors)
    models = []
    for number, (source, columns) in enumerate(sources_in(about)):
        start = f"{number}."
        own = {x.removeprefix(start): y for x, y in tensors.items() if x.startswith(start)}
        model: ContentModel = (
            AudioEncoder(settings, len(own.get("usual", ())))
            if source == AUDIO
            else VectorEncoder(source, columns, settings)
        )
        if set(own) != set(model.state_dict()):
            raise ArtifactError(f"{path} is an encoder of an earlier version; train again")
        model.load_state_dict(own)
        settle(model)
        models.append(model.eval())
    return tuple(models)


def _as_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of the only encoder as those of the first of several.

    One of features had no whitening, and its linear map a bias.
    """
    if "linear.weight" in tensors:
        tensors["whitening"] = torch.eye(len(tensors["mean"]))
        tensors["plain.weight"] = tensors.pop("linear.weight")
        tensors["network.5.bias"] = tensors["network.5.bias"] + tensors.pop("linear.bias")
    return {f"0.{name}": value for name, value in tensors.items()}


def _block(
    channels: int,
    out: int,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pool: tuple[int, int],
) -> nn.Sequential:
    around = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride=stride, padding=around, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
        nn.MaxPool2d(pool) if pool != (1, 1) else nn.Identity(),
    )
