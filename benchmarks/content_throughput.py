"""How many chunks a second CbRM learns from, which share of the machine that is, what bounds it.

    python benchmarks/content_throughput.py [--rounds 9] [--artists 24]

One training step on made-up sound, on the CPU and on a GPU where PyTorch has one, in the medians of
interleaved rounds. The limit is the product of two large matrices in the same precision, measured
between the same rounds: on a busy machine the share holds, chunks a second do not.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from undersong.audio.logmel import BANDS, CHUNKS, FRAMES, augment
from undersong.audio.shards import LogMels
from undersong.losses import cosine, multi_similarity
from undersong.models.content.network import AudioEncoder, ContentSettings
from undersong.training import Schedule, mixed_precision

TRACKS = 640  # on disk, in 10 shards
SHARD = 64  # tracks
SIDE = {"cpu": 1536, "cuda": 8192}  # rows of the matrices whose product is the limit


def main() -> None:
    """Measure every device and precision, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--artists", type=int, default=AudioEncoder.usual_artists)
    asked = parser.parse_args()
    print(f"{'':<14}{'chunks/s':>9}{'share of limit':>16}{'data':>7}{'model':>7}{'loss':>7}")
    with tempfile.TemporaryDirectory() as folder:
        mels = write(Path(folder))
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            for precision in ("float32", "bfloat16"):
                measure(mels, device, precision, rounds=asked.rounds, artists=asked.artists)


def measure(mels: LogMels, device: str, precision: str, *, rounds: int, artists: int) -> None:
    """Time the parts of a step: data, the model there and back, and the loss there and back."""
    settings = ContentSettings(training=Schedule(precision=precision))
    model = AudioEncoder(settings).to(device).train()
    generator = np.random.default_rng(0)
    owner = torch.arange(artists, device=device).repeat_interleave(settings.tracks)
    related = owner[:, None] == owner

    def data() -> Tensor:
        rows = generator.integers(TRACKS, size=len(owner))
        chunks = mels.read_one_each(rows, generator)
        changed = augment(chunks, generator, frames=settings.frames, gain=0, shift=0, mask=0)
        return torch.from_numpy(changed).to(device)

    def embed(chunks: Tensor) -> Tensor:
        with mixed_precision(settings.training, device):
            embedded: Tensor = model(chunks)
        return embedded

    def loss(embedded: Tensor) -> Tensor:
        return multi_similarity(cosine(embedded), related, ~related, settings.loss)

    with FlopCounterMode(display=False) as counter:
        loss(embed(data())).backward()
    side = SIDE[device]
    matrix = torch.randn(side, side, device=device, dtype=getattr(torch, precision))
    seconds: dict[str, list[float]] = {}
    timed = partial(timing, seconds, device)

    def back(embedded: Tensor, gradient: Tensor) -> Tensor:
        embedded.backward(gradient)
        return gradient

    for _ in range(rounds + 1):  # the first round prepares kernels
        timed("limit", lambda: matrix @ matrix)
        chunks = timed("data", data)
        embedded = timed("forward", lambda chunks=chunks: embed(chunks))  # type: ignore[misc]
        leaf = embedded.detach().requires_grad_()
        gradient = timed("loss", lambda leaf=leaf: torch.autograd.grad(loss(leaf), leaf)[0])  # type: ignore[misc]
        timed("backward", lambda e=embedded, g=gradient: back(e, g))  # type: ignore[misc]
    usual = {name: statistics.median(x[1:]) for name, x in seconds.items()}
    network = usual["forward"] + usual["backward"]
    step = usual["data"] + network + usual["loss"]
    limit = 2 * side**3 / usual["limit"]
    parts = "".join(f"{x / step:>7.0%}" for x in (usual["data"], network, usual["loss"]))
    share = counter.get_total_flops() / network / limit
    print(f"{device + ' ' + precision:<14}{len(owner) / step:>9.0f}{share:>16.1%}{parts}")


def timing(
    seconds: dict[str, list[float]], device: str, name: str, work: Callable[[], Tensor]
) -> Tensor:
    """Do some work, and note under its name how long it took, on a GPU until it is done there."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begin = time.perf_counter()
    result = work()
    wait()
    seconds.setdefault(name, []).append(time.perf_counter() - begin)
    return result


def write(folder: Path) -> LogMels:
    """Write made-up log-mel shards, as an extraction leaves them."""
    generator = np.random.default_rng(0)
    shape = (SHARD * CHUNKS, BANDS, FRAMES)
    for shard in range(TRACKS // SHARD):
        place = folder / f"{shard:05d}.npy"
        np.save(place, generator.uniform(0, 6, size=shape).astype(np.float16))
    track = np.arange(TRACKS)
    ids = tuple(str(x) for x in track)
    return LogMels(folder, ids, track // SHARD, track % SHARD * CHUNKS, np.full(TRACKS, CHUNKS))


if __name__ == "__main__":
    main()
