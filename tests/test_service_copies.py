"""Two copies of the service on one shelf, behind a balancer: nobody can tell them apart."""

import asyncio
import http.client
import json
import threading
import time
from contextlib import contextmanager, suppress
from itertools import cycle

from spoken import ARTISTS, ask, make_shelf, rename, serving
from undersong.pipeline.publish import publish
from undersong.retrieval import projection

SIMILAR = "/api/items/artist/artist%203/similar?k=5"
SWITCHES = 5


@contextmanager
def balancing(*ports):
    """A balancer that hands each connection to the next port in turn; gives its own port."""
    turn = cycle(ports)

    async def pass_on(reader, writer):
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def balance(reader, writer):
        theirs, ours = await asyncio.open_connection("127.0.0.1", next(turn))
        await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))
        with suppress(ConnectionError):
            await ours.wait_closed()
            await writer.wait_closed()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(balance, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(timeout=20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=20)
        loop.close()


async def end(server):
    """Take no more connections, and wait for those that there are."""
    server.close()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


def served_by(port):
    """How many answers about artists a copy has given."""
    line = 'route="/api/items/{kind}/{id:path}/similar",status="200"} '
    return float(ask(port, "/metrics")[1].decode().partition(line)[2].partition("\n")[0] or 0)


def load(port, done, seen, faults):
    """Ask until it is done; note generations, and replies that failed or mix two of them."""
    while not done.is_set():
        try:
            status, content = ask(port, SIMILAR)
            said = json.loads(content)
            name = "Renamed" if said["generation"] % 2 == 0 else "Artist 3"
            if status != 200 or said["item"]["name"] != name:
                faults.append((status, said))
            seen.add(said["generation"])
        except (OSError, http.client.HTTPException, ValueError) as error:
            faults.append(error)


def wait_for(generation, *ports):
    now = (200, b'{"status":"ready","generation":%d}' % generation)
    limit = time.monotonic() + 30
    while {ask(x, "/ready") for x in ports} != {now}:
        assert time.monotonic() < limit, "a copy did not switch"
        time.sleep(0.02)


def test_copies_behind_a_balancer_answer_alike_and_no_request_fails_while_they_switch(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(projection, "lay_out", lambda vectors, **_: vectors[:, :2])
    runs = [make_shelf(tmp_path / str(x)).folder for x in range(2)]
    rename(runs[1], "Artist 3", "Renamed")
    shelf = tmp_path / "shelf"
    publish(runs[0], shelf)
    done, seen, faults = threading.Event(), set(), []
    with (
        serving(shelf, "--quiet") as (_, _, first),
        serving(shelf, "--quiet") as (_, _, second),
        balancing(first, second) as port,
    ):
        paths = [f"/api/items/artist/artist%20{x}/similar?k=7" for x in range(ARTISTS)]
        for path in [*paths, "/api/search?q=song", "/api/map?kind=track", "/2.0?method=x"]:
            assert ask(port, path) == ask(port, path), path
        # A connection to each in turn: every question was put to both.
        assert served_by(first) == served_by(second) == ARTISTS
        clients = [threading.Thread(target=load, args=(port, done, seen, faults)) for _ in range(3)]
        for client in clients:
            client.start()
        for turn in range(SWITCHES):
            publish(runs[(turn + 1) % 2], shelf)
            wait_for(turn + 2, first, second)
        done.set()
        for client in clients:
            client.join()
        assert ask(port, SIMILAR) == ask(port, SIMILAR)
    assert faults == []
    assert seen >= {1, SWITCHES}
