"""One big file: resumed by range where the server can, checked, whole or not there."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2

from extract.errors import UserError
from extract.files import write_json
from pipelines.downloads.client import Client
from pipelines.downloads.errors import FetchError
from pipelines.downloads.manners import FetchConfig
from pipelines.progress import Advance, Reporter

CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<total>\d+|\*)")
# Fewer bytes a second than this for as long as the time-out are taken for silence.
SLOWEST = 1024
# An attempt that brought so much does not count as failed: a long file may be cut many times.
WORTH_IT = 1 << 20
MB = 1_000_000


def fetch_file(
    urls: Sequence[str], path: Path, config: FetchConfig, reporter: Reporter, magic: bytes = b""
) -> Path:
    """A file, fetched unless it is there, from the first place that has it.

    What came of it before an interruption is kept beside it, and the rest asked for by range where
    the server says that it is still the same file.

    Args:
        urls: Where it lies; the host of each may have an address that is not public.
        path: Where it goes.
        config: How to behave.
        reporter: Where to tell progress.
        magic: What its first bytes must be.

    Returns:
        `path`.

    Raises:
        UserError: No place has it.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    told = asyncio.run(_from_first(urls, path, config, reporter, magic))
    if told:
        raise UserError(
            f"{path.name} cannot be fetched ({'; '.join(told)}); run the same command again later, "
            f"name a mirror with --url, or put the file at {path} by hand"
        )
    return path


async def _from_first(
    urls: Sequence[str], path: Path, config: FetchConfig, reporter: Reporter, magic: bytes
) -> list[str]:
    """What went wrong at each place; nothing where one had the file."""
    told = []
    async with Client(config, urls) as client:
        for url in urls:
            transfer = _Transfer(client, url, path, reporter, magic)
            try:
                await client.persevere(url, transfer.attempt, transfer.moved_on)
            except FetchError as failure:
                told.append(f"{url}: {failure.detail}")
            else:
                return []
    return told


@dataclass(frozen=True)
class _Version:
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
    def of(cls, url: str, response: httpx2.Response) -> "_Version":
        etag = response.headers.get("ETag", "")
        # A weak one does not promise the same bytes.
        strong = etag if etag and not etag.startswith("W/") else ""
        length = response.headers.get("Content-Length", "")
        return cls(
            url,
            strong or response.headers.get("Last-Modified", ""),
            int(length) if length.isdigit() else None,
        )


class _Transfer:
    """The attempts at one file from one place."""

    def __init__(
        self, client: Client, url: str, path: Path, reporter: Reporter, magic: bytes
    ) -> None:
        self._client, self._url, self._path = client, url, path
        self._reporter, self._magic = reporter, magic
        self._part = path.with_name(f".{path.name}.part")
        self._notes = path.with_name(f".{path.name}.part.json")
        self._before = 0

    def moved_on(self) -> bool:
        """Whether the last attempt brought enough not to count as failed."""
        return self._size() - self._before >= WORTH_IT

    async def attempt(self) -> None:
        """Ask for what is lacking, and put the file in its place once it is whole."""
        version = self._version()
        self._before = have = self._size() if version else 0
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

    def _version(self) -> _Version | None:
        """Which version the part on disk is of; None where it cannot be gone on with."""
        try:
            version = _Version(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        whole = version.total is not None and self._size() > version.total
        usable = version.url == self._url and version.validator and self._size() and not whole
        return version if usable else None

    def _begin(self, response: httpx2.Response) -> _Version:
        version = _Version.of(self._url, response)
        self._notes.unlink(missing_ok=True)
        self._part.write_bytes(b"")
        write_json(self._notes, asdict(version))
        return version

    def _check_start(self, response: httpx2.Response, version: _Version | None, have: int) -> int:
        """From which byte on the answer goes.

        Raises:
            FetchError: It is not the part that was asked for.
        """
        if response.status_code == 200:
            return 0
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        known = str(version.total) if version and version.total is not None else None
        if (
            not found
            or int(found["first"]) != have
            or not have
            or (known and found["total"] not in (known, "*"))
        ):
            self._forget()
            told = response.headers.get("Content-Range", "no range")
            raise FetchError("unreachable", f"asked for bytes from {have}, got {told}", again=True)
        return have

    def _beyond_the_end(
        self, response: httpx2.Response, version: _Version | None, have: int
    ) -> _Version | None:
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
        name = self._path.name
        with (
            self._part.open("ab") as file,
            self._reporter.bar(name, (total or 0) // MB, "MB") as advance,
        ):
            advance(have // MB)
            async with asyncio.timeout(patience) as deadline:
                position = mark = have
                async for chunk in response.aiter_raw(1 << 16):
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
            raise UserError(
                f"{self._path.name} needs {(total - have) / MB:,.0f} MB more and {free / MB:,.0f} "
                f"MB are free in {self._path.parent}; make room, or name another folder with "
                "--downloads"
            )

    def _check_whole(self, version: _Version | None) -> None:
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
        self._notes.unlink(missing_ok=True)

    def _forget(self) -> None:
        self._notes.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0


def _advance(advance: Advance, before: int, after: int) -> None:
    megabytes = after // MB - before // MB
    if megabytes:
        advance(megabytes)
