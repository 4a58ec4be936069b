"""Many pictures: some at once, each whole or not there, and a word on each that is not."""

import asyncio
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2
from PIL import Image, UnidentifiedImageError

from extract.files import sweep
from pipelines.downloads.client import Client
from pipelines.downloads.errors import FetchError
from pipelines.downloads.journal import Entry, Journal
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.shelf import Shelf, shelf
from pipelines.file_names import file_name
from pipelines.progress import Advance, Reporter

# In bytes; no shop shows larger ones.
LARGEST = 32 << 20
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp"}
SUFFIXES |= {"TIFF": ".tiff", "AVIF": ".avif"}
FORMATS = tuple(SUFFIXES)
# What phones make of several pictures in one; it is read as a JPEG is.
SUFFIXES["MPO"] = ".jpg"
# Some servers send one dot instead of saying that there is no picture.
DOT = 1


class FetchedPictures(NamedTuple):
    """What came of many pictures.

    Attributes:
        files: Item id to its picture.
        problems: Item id to problem and detail, of those without.
    """

    files: dict[str, Path]
    problems: dict[str, tuple[str, str]]


def fetch_pictures(
    urls: Mapping[str, str],
    folder: Path,
    config: FetchConfig,
    reporter: Reporter,
    trusted: Sequence[str] = (),
) -> FetchedPictures:
    """Pictures from their URLs, but those that are there and those that were refused before.

    Files are named after items, never after what a server says. Those that failed for the moment
    are asked for again by the next call.

    Args:
        urls: Item id to URL.
        folder: Where they go; the caller sees to it that no other process writes there.
        config: How to behave.
        reporter: Where to tell progress.
        trusted: URLs whose hosts the user named, so that their addresses need not be public.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    journal = Journal(folder)
    problems: dict[str, tuple[str, str]] = {}
    wanted = [item for item, url in urls.items() if not _is_settled(journal, item, url, config)]
    if wanted:
        crawl = _Crawl(folder, journal, problems, config, trusted, reporter.say)
        # httpx2 says every request.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        with reporter.bar("fetching", len(wanted), "pictures") as advance, journal.writing():
            asyncio.run(crawl.run(((item, urls[item]) for item in wanted), advance))
    return _collected(urls, folder, journal, problems)


def _is_settled(journal: Journal, item: str, url: str, config: FetchConfig) -> bool:
    entry = journal.entries.get(item)
    if entry is None or entry.url != url:
        return False
    return not config.again if entry.problem else journal.holds(entry)


def _collected(
    urls: Mapping[str, str],
    folder: Path,
    journal: Journal,
    problems: Mapping[str, tuple[str, str]],
) -> FetchedPictures:
    found = FetchedPictures({}, {})
    for item in urls:
        entry = journal.entries.get(item)
        if item in problems:
            found.problems[item] = problems[item]
        elif entry and entry.problem:
            found.problems[item] = (entry.problem, entry.detail)
        elif entry:
            found.files[item] = folder / entry.file
    return found


class _Crawl:
    """The fetching of what is lacking."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        problems: dict[str, tuple[str, str]],
        config: FetchConfig,
        trusted: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._journal, self._problems = folder, journal, problems
        self._config, self._trusted, self._say = config, trusted, say

    async def run(self, wanted: Iterator[tuple[str, str]], advance: Advance) -> None:
        """Fetch, several at once, taking from one list."""

        async def work(client: Client, taking: Shelf) -> None:
            for item, url in wanted:
                await self._one(client, taking, item, url)
                advance()

        try:
            async with (
                Client(self._config, self._trusted, self._say) as client,
                shelf(self._folder, self._journal) as taking,
                asyncio.TaskGroup() as group,
            ):
                # More than one host allows, so that a slow one does not hold the others up.
                for _ in range(4 * self._config.connections):
                    group.create_task(work(client, taking))
        except BaseExceptionGroup as several:  # such as a full disk
            raise several.exceptions[0] from None

    async def _one(self, client: Client, taking: Shelf, item: str, url: str) -> None:
        try:
            picture, suffix = await client.persevere(url, lambda: _picture(client, url))
            name = file_name(item, suffix)
        except FetchError as error:
            self._problems[item] = (error.problem, error.detail)
            if error.problem != "unreachable":  # which may have changed by the next time
                await taking.put(Entry(item, url, problem=error.problem, detail=error.detail))
        else:
            await taking.put(Entry(item, url, name, len(picture)), picture)


async def _picture(client: Client, url: str) -> tuple[bytes, str]:
    """The bytes of one answer, and the suffix of their format.

    Raises:
        FetchError: There is no picture, or it is too large.
    """
    async with client.open(url) as response:
        _check_head(response)
        body = bytearray()
        async with asyncio.timeout(client.config.timeout):
            async for chunk in response.aiter_raw(1 << 16):
                body += chunk
                if len(body) > LARGEST:
                    raise FetchError("too_large", f"more than {LARGEST:,} bytes")
    if not body:
        raise FetchError("empty", "the server sent nothing")
    picture = bytes(body)
    return picture, _suffix(picture, _tells_its_end(response))


def _check_head(response: httpx2.Response) -> None:
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/"):
        raise FetchError("unreadable", f"the server sent {kind}, not a picture")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > LARGEST:
        raise FetchError("too_large", f"{int(length):,} bytes, more than {LARGEST:,}")


def _tells_its_end(response: httpx2.Response) -> bool:
    """Whether an answer that was cut off is known as such; else it ends with the connection."""
    headers = response.headers
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "")


def _suffix(picture: bytes, whole: bool) -> str:
    """The suffix of the format that the bytes are in, whatever the server says.

    Args:
        picture: The bytes.
        whole: Whether they are known to be all; else they are decoded to find out.

    Raises:
        FetchError: They are no picture, or one that stands for none.
    """
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            size, suffix = image.size, SUFFIXES[image.format or ""]
            if not whole:
                image.load()
    except UnidentifiedImageError:
        raise FetchError("unreadable", f"no picture, begins with {picture[:16]!r}") from None
    except Image.DecompressionBombError as error:
        raise FetchError("too_large", str(error)) from error
    except Exception as error:  # of a broken header: Pillow's decoders raise all kinds
        raise FetchError("unreadable", f"no picture: {error}") from error
    if max(size) <= DOT:
        raise FetchError("empty", "a picture of one dot, which stands for none")
    return suffix
