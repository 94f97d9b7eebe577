"""Ray Data: a stream of items through workers that may die, in order and each once.

Used where results are large (log-mel chunks, E_C and E_G), since Ray Data slows down the workers
when nobody takes what they made.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from undersong.audio.decode import Decoded, Decoder
from undersong.audio.hearing import Ears
from undersong.audio.logmel import BANDS, FRAMES, Undecodable
from undersong.cluster.connection import failures, processors
from undersong.errors import UndersongError

# Of one task at most. A processor waits a quarter of a second for each, and at the end as long as
# another one still works at its last.
FILES, BLOCKS = 256, 16
AT_ONCE = 16  # items of a task that are worked at before their rows are packed
SENT = 2**25  # bytes of rows that a task sends while it goes on
Row = dict[str, Any]


def stream(
    function: Callable[[Sequence[Any]], list[Row]], items: Sequence[Any], *, a_task: int
) -> Iterator[Row]:
    """Apply a function to at most ``a_task`` items at a time; its rows come in their order.

    A row holds numbers, words and bytes. A task whose node dies is done again elsewhere, and so
    is one whose result was lost with it.

    Raises
    ------
    UndersongError
        If a task fails for good.
    """
    if not len(items):
        return
    tasks = _tasks(len(items), a_task=a_task, processors=processors())
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = SENT
    numbered = [{"place": place, "item": item} for place, item in enumerate(items)]
    dataset = ray.data.from_items(numbered, override_num_blocks=tasks)
    rows = dataset.map_batches(
        partial(_numbered, function),
        batch_size=None,
        batch_format="pyarrow",
        scheduling_strategy="SPREAD",
    )
    expected = 0
    with failures("stream"):
        for row in rows.iter_rows():
            if row.pop("place") != expected:
                raise UndersongError(f"the cluster lost or doubled item {expected}; run again")
            expected += 1
            yield row
    if expected != len(items):
        raise UndersongError(f"the cluster gave {expected} of {len(items)} items; run again")


def _tasks(items: int, *, a_task: int, processors: int) -> int:
    """Count the tasks so that every processor gets as many as every other, if there are enough."""
    return min(items, -(-items // (a_task * processors)) * processors)


def _numbered(function: Callable[[Sequence[Any]], list[Row]], table: Any) -> Iterator[Any]:
    """Apply a function to the items of an Arrow table, some at a time, and keep their numbers."""
    import pyarrow

    for start in range(0, len(table), AT_ONCE):
        some = table.slice(start, AT_ONCE)
        rows = function(some.column("item").to_pylist())
        places = some.column("place").to_pylist()
        yield pyarrow.Table.from_pylist(
            [{"place": place, **row} for place, row in zip(places, rows, strict=True)]
        )


def decode_there(
    paths: Iterable[Path], ears: Sequence[Ears] = ()
) -> Iterator[Decoded | Undecodable]:
    """Decode files on the cluster, in the order given, as ``audio.decode.decode`` does here.

    Ears must lie at the same place on every node.
    """
    numbers = [x.contract.numbers for x in ears]
    for row in stream(partial(_decode, tuple(ears)), [str(x) for x in paths], a_task=FILES):
        if row["remedy"]:
            yield Undecodable(row["reason"], row["remedy"])
        else:
            sound = np.frombuffer(row["log_mel"], dtype=np.float16).reshape(-1, BANDS, FRAMES)
            heard = np.split(np.frombuffer(row["ears"], dtype=np.float32), np.cumsum(numbers))
            yield Decoded(sound, row["seconds"], row["reason"], tuple(heard[: len(ears)]))


def _decode(ears: tuple[Ears, ...], paths: Sequence[str]) -> list[Row]:
    return [_row_of(_decoder(ears).decode(Path(x))) for x in paths]


@cache
def _decoder(ears: tuple[Ears, ...]) -> Decoder:
    """The child of this worker: it loads the audio libraries once for all tasks, and ends with it.

    So a worker that Ray kills leaves none.
    """
    return Decoder(ears=ears)


def _row_of(result: Decoded | Undecodable) -> Row:
    if isinstance(result, Undecodable):
        about: Row = {"seconds": 0.0, "reason": result.reason, "remedy": result.remedy}
        return about | {"log_mel": b"", "ears": b""}
    about = {"seconds": result.seconds, "reason": result.damage, "remedy": ""}
    ears = b"".join(x.tobytes() for x in result.ears)
    return about | {"log_mel": result.log_mel.tobytes(), "ears": ears}


def vectors_there(
    function: Callable[[int], NDArray[np.float32]], starts: Iterable[int]
) -> Iterator[NDArray[np.float32]]:
    """Apply what makes the vectors of a block to every block, as ``map`` does here."""
    for row in stream(partial(_vectors, function), list(starts), a_task=BLOCKS):
        yield np.frombuffer(row["vectors"], dtype=np.float32).reshape(-1, row["width"])


def _vectors(function: Callable[[int], NDArray[np.float32]], starts: Sequence[int]) -> list[Row]:
    blocks = [function(start) for start in starts]
    return [{"vectors": x.tobytes(), "width": x.shape[1]} for x in blocks]
