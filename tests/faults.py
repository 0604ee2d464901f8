"""A loopback proxy before an S3 server that fails on purpose: errors, cut connections, latency, or nothing at all.

    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], errors=0.05, cuts=0.02, latency_s=0.01) as proxy:
        environment["AWS_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL_S3"] = proxy.url
        ...
        proxy.on = False            # passes everything from now on
        proxy.down = True           # cuts every connection, as a server that died would
        proxy.next += ["error"] * 3  # the next three requests, before any chance is drawn

Shares, latency and switches may be changed while it runs. Requests are passed byte for byte (S3 signs the Host header),
one a connection.
"""

import asyncio
import collections
import contextlib
import random
import threading
import urllib.parse
from collections.abc import Callable

HEAD_LIMIT = 1 << 16
PIECE = 1 << 16
ERRORS = {"error": (503, "SlowDown"), "throttle": (429, "TooManyRequests"), "internal": (500, "InternalError")}


class FaultProxy:
    """Passes requests on to ``endpoint``, a share of them badly.

    Args:
        endpoint: ``http://host:port`` of the real server.
        errors: share of requests that are answered with 503 SlowDown and never reach the server.
        cuts: share of requests whose answer ends midway, in its head or in its body.
        latency_s: seconds that each request waits first.
        seed: of the draws.

    Attributes:
        url: where it listens.
        on: whether it draws faults.
        down: whether it cuts every connection at once.
        next: faults of the next requests: ``pass``, ``cut``, ``lost`` (the server does it, its answer is dropped),
            or a name of ``ERRORS``.
        counts: how many requests met which of these.
        requests: method and path of each request, in order.
    """

    def __init__(
        self, endpoint: str, errors: float = 0.0, cuts: float = 0.0, latency_s: float = 0.0, seed: int = 0
    ) -> None:
        self.errors, self.cuts, self.latency_s = errors, cuts, latency_s
        self.on, self.down = True, False
        self.next: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.requests: list[tuple[str, str]] = []
        self.url = ""
        parts = urllib.parse.urlsplit(endpoint)
        self._target = (parts.hostname, parts.port)
        self._draw = random.Random(seed)  # noqa: S311 - faults are no secret
        self._taking: set[asyncio.Task[None] | None] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started, self._ended = threading.Event(), asyncio.Event()

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0, limit=HEAD_LIMIT)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._ended.wait()
        server.close()
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:  # a connection may come in the meantime
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was closed is only gone after a turn of the loop

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Once the client has gone, nothing else may hold this task, and it would be destroyed while it waits.
        self._taking.add(task := asyncio.current_task())
        try:
            with contextlib.suppress(OSError, EOFError):
                if not self.down:
                    await self._answer(reader, writer)
                    await writer.drain()
        finally:
            writer.close()
            self._taking.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        fault = self._fault()
        self.counts[fault] += 1
        self.requests.append((method, path))
        await asyncio.sleep(self.latency_s)
        if self.down:
            return
        if fault in ERRORS:
            writer.write(_error(*ERRORS[fault], method != "HEAD"))
            await writer.drain()
            await _drained(reader)
            return
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        try:
            line, rest = head.split(b"\r\n", 1)
            kept = [row for row in rest.split(b"\r\n") if not row.lower().startswith(b"connection:")]
            up_writer.write(b"\r\n".join([line, b"Connection: close", *kept]))
            sending = asyncio.ensure_future(_copy(reader, up_writer))
            await self._return(up_reader, writer, fault)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        finally:
            up_writer.close()

    async def _return(self, source: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        first = await source.readuntil(b"\r\n\r\n")
        if first.startswith(b"HTTP/1.1 100"):  # the client waits for it before it sends
            writer.write(first)
            first = b""
        if fault == "lost":
            while await source.read(PIECE):
                pass
        elif fault == "cut":
            answer = bytearray(first)
            while piece := await source.read(PIECE):
                answer += piece
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
        else:
            writer.write(first)
            await _copy(source, writer, lambda: self.down)

    def _fault(self) -> str:
        if self.next:
            return self.next.pop(0)
        drawn = self._draw.random()
        if not self.on or drawn >= self.errors + self.cuts:
            return "pass"
        return "error" if drawn < self.errors else "cut"


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, ended: Callable[[], bool] = lambda: False
) -> None:
    while not ended() and (piece := await source.read(PIECE)):
        target.write(piece)
        await target.drain()


async def _drained(reader: asyncio.StreamReader) -> None:
    """Take what the client is still sending, so that it reads the answer rather than a reset."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            while await reader.read(PIECE):
                pass


def _error(status: int, code: str, with_body: bool) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + (body if with_body else b"")
