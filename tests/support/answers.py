"""What the server of `support.web` says: answers of good servers, and of all kinds of bad ones."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

HTML = b"<!DOCTYPE html><html><body>There is nothing of that name.</body></html>"
MODIFIED = "Mon, 02 Feb 2015 10:00:00 GMT"
ONE_RANGE = re.compile(r"bytes=(?P<first>\d+)-(?P<last>\d*)")


@dataclass(frozen=True)
class Request:
    """What was asked: the target as it was sent, headers by lower-case name, and when.

    `at` is of `time.monotonic`; `connection` numbers the connections from 0.
    """

    path: str
    headers: Mapping[str, str]
    at: float
    connection: int


@dataclass(frozen=True)
class Answer:
    """What is sent for one request.

    Attributes:
        status: The status.
        body: The body.
        headers: Beside the length, which is told as `framing` and `says` ask.
        framing: ``length``, ``chunked``, or ``none``, where the end of the connection is the end.
        says: A Content-Length that lies; after the body the server goes on as if it did not.
        cut: Close after so many bytes of the body.
        reset: Close with a reset (RST), where it is cut.
        drip: Send the body in pieces of so many bytes, with a pause before each.
        drip_head: Send the head byte by byte, with a pause before each.
        pause: Seconds of these pauses.
        hang: Seconds before the first byte.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: str = "length"
    says: int | None = None
    cut: int | None = None
    reset: bool = False
    drip: int = 0
    drip_head: bool = False
    pause: float = 0.02
    hang: float = 0.0

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{k}: {v}" for k, v in self.headers.items())]
        if self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.framing == "none":
            lines.append("Connection: close")
        else:
            lines.append(f"Content-Length: {len(self.body) if self.says is None else self.says}")
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    @property
    def pieces(self) -> list[bytes]:
        """The body as it is sent, one element per call."""
        body = self.body[: self.cut]
        step = self.drip or max(len(body), 1)
        pieces = [body[first : first + step] for first in range(0, len(body), step)]
        if self.framing == "chunked":
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
            pieces += [b"0\r\n\r\n"] if self.cut is None else []
        return pieces


Scripted = Answer | Callable[[Request], Answer]
NOT_FOUND = Answer(404, HTML, {"Content-Type": "text/html; charset=utf-8"})


def etag_of(body: bytes) -> str:
    """The strong ETag of a published file."""
    return f'"{sha256(body).hexdigest()[:16]}"'


def published(
    body: bytes, content_type: str = "image/jpeg", misbehaving: Answer | None = None
) -> Callable[[Request], Answer]:
    """Answers as good servers publish a file: by range, and by If-Range.

    Args:
        body: Its bytes.
        content_type: Their type.
        misbehaving: In these ways, beside that; of it status, body and headers do not count.
    """
    headers = {"Content-Type": content_type, "Accept-Ranges": "bytes", "Last-Modified": MODIFIED}
    headers["ETag"] = etag_of(body)

    def answer(request: Request) -> Answer:
        whole = replace(misbehaving or Answer(), status=200, body=body, headers=headers)
        wanted = ONE_RANGE.fullmatch(request.headers.get("range", ""))
        same = request.headers.get("if-range", headers["ETag"]) in (headers["ETag"], MODIFIED)
        if not wanted or not same:
            return whole
        first = int(wanted["first"])
        if first >= len(body):
            return Answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        last = min(int(wanted["last"] or len(body) - 1), len(body) - 1)
        told = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return replace(whole, status=206, body=body[first : last + 1], headers=headers | told)

    return answer
