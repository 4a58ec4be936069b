"""A small web server on this machine that is a good one, or misbehaves just as a test asks.

It keeps a record of what it was asked, which is the truth of the tests of downloading.
"""

import io
import random
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from itertools import count
from typing import BinaryIO

from PIL import Image
from support.answers import NOT_FOUND, Answer, Request, Scripted, published

# A close with this option is told as a reset, and what was not yet sent is thrown away.
NO_LINGERING = struct.pack("ii", 1, 0)


def picture(seed: int, size: tuple[int, int] = (16, 16), kind: str = "JPEG") -> bytes:
    """A picture of noise, the same for the same seed."""
    pixels = random.Random(seed).randbytes(3 * size[0] * size[1])
    file = io.BytesIO()
    Image.frombytes("RGB", size, pixels).save(file, kind)
    return file.getvalue()


class Site:
    """A server; a context, or stopped by `stop`. What it was not given is 404 and a page.

    Args:
        host: The address it listens at.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.most_at_once = 0
        self._serving = 0
        self._lock = threading.Lock()
        self._scripts: dict[str, list[Scripted]] = {}
        self._requests: list[Request] = []
        self._open: set[socket.socket] = set()
        self._stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Hang up on everybody; waits for nobody."""
        with self._lock:
            self._stopping = True
            for each in (self._listener, *self._open):
                _hang_up(each)

    def put(self, path: str, body: bytes, content_type: str = "image/jpeg") -> str:
        """Publish a file as a good server does; gives its URL."""
        return self.answer(path, published(body, content_type))

    def answer(self, path: str, *answers: Scripted) -> str:
        """Answer so, one after another, the last one for ever; gives the URL."""
        with self._lock:
            self._scripts[path] = list(answers)
        return self.url + path

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in order."""
        with self._lock:
            return list(self._requests)

    def asked(self, path: str) -> list[Request]:
        """The requests for one path."""
        return [request for request in self.requests if request.path == path]

    def forget(self) -> None:
        """Begin the record anew."""
        with self._lock:
            self._requests.clear()
            self.most_at_once = 0

    def _accept(self) -> None:
        with self._listener, suppress(OSError):  # of `stop`
            for number in count():
                connection, _ = self._listener.accept()
                with self._lock:
                    if self._stopping:
                        connection.close()
                        return
                    self._open.add(connection)
                serve = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
                serve.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with connection.makefile("rb") as incoming:
                while (request := _read_request(incoming, number)) is not None:
                    if not self._reply(connection, request):
                        break
        except OSError:  # the other side hung up, or the site stops
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
                connection.close()

    def _reply(self, connection: socket.socket, request: Request) -> bool:
        """Send one answer; gives whether the connection stays open."""
        with self._lock:
            self._requests.append(request)
            self._serving += 1
            self.most_at_once = max(self.most_at_once, self._serving)
            script = self._scripts.get(request.path, [NOT_FOUND])
            scripted = script.pop(0) if len(script) > 1 else script[0]
        answer = scripted if isinstance(scripted, Answer) else scripted(request)
        try:
            last = self._send_all_but_the_last(connection, answer)
        finally:
            with self._lock:  # before the end is sent, as that lets the next request come
                self._serving -= 1
        connection.sendall(last)
        if answer.cut is not None and answer.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
        return answer.cut is None and answer.framing != "none"

    def _send_all_but_the_last(self, connection: socket.socket, answer: Answer) -> bytes:
        _wait(connection, answer.hang)
        head = answer.head
        if not answer.drip and not answer.drip_head:
            # At once, as a client may hang up and ask anew when it has read but the head.
            return b"".join([head, *answer.pieces])
        first = [bytes([each]) for each in head] if answer.drip_head else [head]
        sends = [*first, *answer.pieces]
        for position, piece in enumerate(sends):
            if answer.drip_head if position < len(first) else answer.drip:
                _wait(connection, answer.pause)
            if position < len(sends) - 1:
                connection.sendall(piece)
        return sends[-1]


def _wait(connection: socket.socket, seconds: float) -> None:
    """Pause, but no longer than the other side listens and the site goes on."""
    if seconds and select.select([connection], [], [], seconds)[0]:
        raise ConnectionAbortedError


def _read_request(incoming: BinaryIO, number: int) -> Request | None:
    """The next request of a connection; None at its end."""
    words = incoming.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = {}
    while line := incoming.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Request(words[1], headers, time.monotonic(), number)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
