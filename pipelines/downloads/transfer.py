"""The attempts at one big file from one place: what came of earlier ones is gone on with by range.

The part that is there lies beside the file to be, with a note of which version it is of; the server
is asked for the rest of that version, or for the whole of another.
"""

import asyncio
import glob
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2

from extract.files import digest, naming, write_json
from pipelines.downloads.client import Client
from pipelines.downloads.errors import FetchError
from pipelines.progress import Advance, Reporter

CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-\d+/(?P<total>\d+|\*)")
# Fewer bytes a second than this for as long as the time-out are taken for silence.
SLOWEST = 1024
# An attempt that brought so much does not count as failed: a long file may be cut many times.
WORTH_IT = 1 << 20
MB = 1_000_000


@dataclass(frozen=True)
class Version:
    """What tells whether two answers are about the same bytes.

    Attributes:
        url: Where they come from.
        validator: The server's name of this version, for ``If-Range``; empty without one.
        total: Their number; None where it is not told.
    """

    url: str
    validator: str
    total: int | None

    @classmethod
    def of(cls, url: str, response: httpx2.Response) -> "Version":
        """The version that an answer is about."""
        etag = response.headers.get("ETag", "")
        # A weak one does not promise the same bytes.
        strong = etag if etag and not etag.startswith("W/") else ""
        length = response.headers.get("Content-Length", "")
        return cls(
            url,
            strong or response.headers.get("Last-Modified", ""),
            int(length) if length.isdigit() else None,
        )

    def is_of(self, response: httpx2.Response) -> bool:
        """Whether an answer names this version, or none."""
        header = "ETag" if self.validator.startswith('"') else "Last-Modified"
        return response.headers.get(header, self.validator) == self.validator


class Transfer:
    """The attempts at one file from one place.

    Args:
        client: Asks for it.
        url: The place.
        path: Where the file goes once it is whole.
        reporter: Where to tell progress.
        magic: What its first bytes must be.
    """

    def __init__(
        self, client: Client, url: str, path: Path, reporter: Reporter, magic: bytes
    ) -> None:
        self._client, self._url, self._path = client, url, path
        self._reporter, self._magic = reporter, magic
        # One for each place, as another place's answer is another file.
        self._part = path.with_name(f".{path.name}.{digest([url])[:8]}.part")
        self._notes = self._part.with_name(f"{self._part.name}.json")
        self._most = 0

    def moved_on(self) -> bool:
        """Whether the last attempt got so much further than any before that it is no failure."""
        return self._size() - self._most >= WORTH_IT

    def tell(self, what: str, pause: float) -> None:
        """Say that there will be another attempt."""
        self._reporter.say(f"{self._path.name}: {what}; another attempt in {pause:.1f} s")

    async def attempt(self) -> None:
        """Ask for what is lacking, and put the file in its place once it is whole."""
        version = self._version()
        have = self._size() if version else 0
        self._most = max(self._most, self._size())
        headers = {"Range": f"bytes={have}-", "If-Range": version.validator} if version else {}
        async with self._client.open(self._url, headers, also=(206, 416)) as response:
            if response.status_code == 416:
                version = self._beyond_the_end(response, version, have)
            else:
                have = self._check_start(response, version, have)
                if not have:
                    version = self._begin(response)
                await self._receive(response, have, version.total if version else None)
        self._check_whole(version)
        await asyncio.to_thread(self._finish)

    def _version(self) -> Version | None:
        """Which version the part on disk is of; None where it cannot be gone on with."""
        try:
            version = Version(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        size = self._size()
        fits = size > 0 and (version.total is None or size <= version.total)
        return version if version.url == self._url and version.validator and fits else None

    def _begin(self, response: httpx2.Response) -> Version:
        version = Version.of(self._url, response)
        self._notes.unlink(missing_ok=True)
        self._part.write_bytes(b"")
        write_json(self._notes, asdict(version))
        return version

    def _check_start(self, response: httpx2.Response, version: Version | None, have: int) -> int:
        """From which byte on the answer goes.

        Raises:
            FetchError: It is not the part that was asked for.
        """
        if response.status_code == 200:
            return 0
        told = response.headers.get("Content-Range", "no range")
        found = CONTENT_RANGE.fullmatch(told)
        if version and found and _is_rest(found, version, have) and version.is_of(response):
            return have
        self._forget()
        raise FetchError("unreachable", f"asked for bytes from {have}, got {told}", again=True)

    def _beyond_the_end(
        self, response: httpx2.Response, version: Version | None, have: int
    ) -> Version | None:
        """What to make of a server that has nothing from there on: the part may be whole."""
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if version and total == str(have) and version.total in (None, have):
            return version
        self._forget()
        raise FetchError("unreachable", f"the server has no bytes from {have} on", again=True)

    async def _receive(self, response: httpx2.Response, have: int, total: int | None) -> None:
        self._check_room(total, have)
        kind = response.headers.get("Content-Type", "no type")
        loop, patience = asyncio.get_running_loop(), self._client.config.timeout
        name = f"fetching {self._path.name}"
        with (
            naming(self._part),
            self._part.open("ab") as file,
            self._reporter.bar(name, (total or 0) // MB, "MB") as advance,
        ):
            advance(have // MB)
            async with asyncio.timeout(patience) as deadline:
                position = mark = have
                async for chunk in response.aiter_raw():
                    if position < len(self._magic):
                        self._check_magic(chunk, position, kind)
                    file.write(chunk)
                    _advance(advance, position, position + len(chunk))
                    position += len(chunk)
                    if position - mark >= SLOWEST * patience:
                        mark = position
                        deadline.reschedule(loop.time() + patience)

    def _check_magic(self, chunk: bytes, position: int, kind: str) -> None:
        expected = self._magic[position : position + len(chunk)]
        if not chunk.startswith(expected):
            self._forget()
            raise FetchError(
                "refused",
                f"not the file but {kind}, which begins with {chunk[:16]!r}",
            )

    def _check_room(self, total: int | None, have: int) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if total is not None and total - have > free:
            raise FetchError(
                "too_large",
                f"{(total - have) / MB:,.0f} MB more are said to come and {free / MB:,.0f} MB are "
                f"free in {self._path.parent}; if that is so, make room or name another folder "
                "with --downloads",
            )

    def _check_whole(self, version: Version | None) -> None:
        size = self._size()
        if version and version.total is not None and size != version.total:
            raise FetchError("unreachable", f"got {size} of {version.total} bytes", again=True)
        if size < len(self._magic) or not size:
            self._forget()
            raise FetchError("empty", "the server sent nothing")

    def _finish(self) -> None:
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)
        for others in self._path.parent.glob(f".{glob.escape(self._path.name)}.*.part*"):
            others.unlink(missing_ok=True)

    def _forget(self) -> None:
        self._notes.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0


def _advance(advance: Advance, before: int, after: int) -> None:
    megabytes = after // MB - before // MB
    if megabytes:
        advance(megabytes)


def _is_rest(found: re.Match[str], version: Version, have: int) -> bool:
    """Whether a range is what lacks of a version of which there are so many bytes."""
    totals = {"*", found["total"] if version.total is None else str(version.total)}
    return int(found["first"]) == have and found["total"] in totals
