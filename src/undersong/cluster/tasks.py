"""A Ray cluster that runs already: join it, share work out, and report what fails there.

Every node has undersong installed and sees the same folders under the same names. Large results
(log-mel chunks, E_C and E_G) come as a stream of items through workers that may die, in order and
each once, by Ray Data; small ones by tasks, since Ray Data slows down the workers when nobody takes
what they made.
"""

import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from undersong.audio.decode import Decoded, Decoder
from undersong.audio.ears import Ears
from undersong.audio.logmel import BANDS, FRAMES, Undecodable
from undersong.errors import SettingsError, UndersongError
from undersong.sandbox import PACKAGES

SECONDS = 10.0  # to wait for an answer of the address
AHEAD = 2  # tasks a processor that run or wait: more would only fill the memory with results
RAISED = re.compile(r"\A[\w.]+(Error|Exception): ")  # last line of a traceback
ADDED = "\nFailed to apply UDF"  # how advice begins that Ray Data adds to what a task said
T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Take part in the cluster at ``address``, HOST:PORT, and leave it at the end.

    Raises
    ------
    SettingsError
        If the address is none.
    UndersongError
        If nobody answers there, or the token is wrong.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise SettingsError(
            f"the cluster's address is {address!r}; give HOST:PORT as `ray start --head` prints it"
        )
    remedy = (
        "start the cluster with `ray start --head`, and give this process the RAY_AUTH_MODE and "
        "the token that the cluster has"
    )
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
        with chdir(PACKAGES):  # Ray lets its workers import from the folder that this runs in
            ray.init(
                address, namespace="undersong", log_to_driver=False, logging_level=logging.ERROR
            )
    except (OSError, OverflowError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UndersongError(f"no Ray cluster at {address} ({reason}); {remedy}") from error
    try:
        yield
    finally:
        ray.shutdown()


def processors() -> int:
    """How many processors the cluster offers now, 1 or more."""
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


@contextmanager
def failures(work: str) -> Iterator[None]:
    """Turn Ray's error of a worker that failed for good into one that says what to do.

    Ray has then tried again on other workers. An ``UndersongError`` of a task stays what it is.
    """
    try:
        yield
    except RayTaskError as error:
        cause = _innermost(error)
        if isinstance(cause, UndersongError):
            cause.args = (str(cause).partition(ADDED)[0],)
            raise cause from error
        raise UndersongError(
            f"{work}: a worker of the cluster failed with {_raised(error)}; is the same version of "
            "undersong on every node, and does each see the same folders?"
        ) from error
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise UndersongError(
            f"{work}: workers of the cluster die again and again ({type(error).__name__}: {reason})"
            "; look at their memory and at the logs of Ray, then run the same command again"
        ) from error


def _raised(error: RayTaskError) -> str:
    """Name and text of what was raised first: of the chain of causes Ray keeps the text alone."""
    lines = (x.strip() for x in str(error).splitlines())
    return next((x for x in lines if RAISED.match(x)), type(error).__name__)


def _innermost(error: BaseException) -> BaseException:
    """Go down to what was raised on the worker, through what Ray wraps it in."""
    while True:
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException) or inner is error:
            return error
        error = inner


def in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply a function to every item on the cluster; results come in the order of the items.

    What ``map`` does on one machine. The function goes to each node once, with the arrays it
    holds. A task whose worker or node dies is done again elsewhere.
    """
    shared, ahead = ray.put(function), AHEAD * processors()
    task: Any = ray.remote(_apply)
    waiting: deque[Any] = deque()
    with failures("blocks"):
        for item in items:
            waiting.append(task.remote(shared, item))
            if len(waiting) >= ahead:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())


def _apply(function: Callable[[T], R], item: T) -> R:
    return function(item)


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
