"""A server that answers every request with the same picture of 20 kB, as cheaply as Python can."""

import asyncio
import io
from functools import cache

import numpy as np
from PIL import Image

SIZE = 20_000


@cache
def picture() -> bytes:
    """A JPEG of noise, filled up to `SIZE` bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=70)
    return file.getvalue().ljust(SIZE, b"\0")


class _Answering(asyncio.Protocol):
    """One connection: an answer for the end of each request's head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._heads = transport, b""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {SIZE}\r\n\r\n"
        self._answer = head.encode() + picture()

    def data_received(self, data: bytes) -> None:
        *ended, self._heads = (self._heads + data).split(b"\r\n\r\n")
        for _ in ended:
            self._transport.write(self._answer)


async def serve() -> None:
    """Serve until ended, on a free port, which is printed."""
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
