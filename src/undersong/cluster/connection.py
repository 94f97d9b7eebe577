"""A Ray cluster that runs already: join it, share work out, and report what fails there.

Every node has undersong installed and sees the same folders under the same names.
"""

import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

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
