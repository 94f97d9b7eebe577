"""Addresses of the service: what answers at each, and whether a client must show the token."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.service.access import guard

ROUTE = "undersong.route"  # key of a request's scope: the path of the address that answers
Answer = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


def address(
    path: str, answer: Answer, *, methods: Sequence[str] = ("GET",), guarded: bool = True
) -> Route:
    """Answer at an address; what is no coroutine may take its time, and does so in a thread.

    Parameters
    ----------
    path : with what differs in braces, as Starlette reads it
    guarded : whether a client must show the service's token, if it has one
    """
    quick = iscoroutinefunction(answer)
    wait = cast(Callable[[Request], Awaitable[Response]], answer)
    reply = cast(Callable[[Request], Response], answer)

    async def asked(request: Request) -> Response:
        if guarded:
            guard(request)
        request.scope[ROUTE] = path
        return await (wait(request) if quick else run_in_threadpool(reply, request))

    return Route(path, asked, methods=list(methods))
