"""The files and pictures of a published source: fetched, kept, and told whose they are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from extract.ledger import Problem
from extract.locking import locked
from pipelines.downloads.files import fetch_file
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.pictures import fetch_pictures
from pipelines.progress import Reporter
from pipelines.sources.pictures import PictureFolders
from pipelines.sources.writing import Origin

FETCHING = "fetching into"
REFUSED = ("refused", "unreadable", "empty", "too_large")
NO_URL, NO_FILE = "the metadata has no URL", "the folder of pictures has none"


class Found(NamedTuple):
    """The pictures of some items.

    Attributes:
        files: Item id to its picture.
        problems: Why others have none, in the order of the items.
    """

    files: dict[str, Path]
    problems: list[Problem]


def places(path: str, bases: Sequence[str], url: str | None) -> list[str]:
    """The URLs of a published file, the preferred one first.

    Args:
        path: Where it lies below each base.
        bases: Of the publisher.
        url: The base that the user named, which may hold the files without their folders.
    """
    if not url:
        return [f"{base}/{path}" for base in bases]
    paths = dict.fromkeys((path, path.rpartition("/")[2]))
    return [f"{url.rstrip('/')}/{each}" for each in paths]


def fetch_files(
    folder: Path,
    urls: Mapping[str, Sequence[str]],
    origin: Origin,
    config: FetchConfig,
    reporter: Reporter,
    magic: bytes = b"",
) -> list[Path]:
    """The files of a release, fetched unless they are there.

    Args:
        folder: Where they go; the folder above it is that of the release.
        urls: File name to where it lies.
        origin: Told when the release's folder is made.
        config: How to behave.
        reporter: Where to tell progress.
        magic: What their first bytes must be.

    Raises:
        UserError: One cannot be had, or another process fetches into the folder.
    """
    paths = [folder / name for name in urls]
    if all(path.is_file() for path in paths):
        return paths
    if not folder.parent.is_dir():
        reporter.say(f"{origin.title}, {origin.home}")
        reporter.say(f"licence: {origin.licence}")
        reporter.say(f"please cite: {origin.citation}")
    with locked(folder, FETCHING):
        for path in paths:
            fetch_file(urls[path.name], path, config, reporter, magic)
    return paths


def fetched_pictures(
    urls: Mapping[str, str | None],
    folder: Path,
    config: FetchConfig,
    reporter: Reporter,
    trusted: Sequence[str] = (),
) -> Found:
    """The pictures of items from their URLs.

    Args:
        urls: Item id to URL, or None.
        folder: That of the files; pictures go to ``pictures/`` in it.
        config: How to behave.
        reporter: Where to tell progress.
        trusted: URLs whose hosts the user named.

    Raises:
        UserError: Another process fetches into the folder.
    """
    known = {item: url for item, url in urls.items() if url}
    with locked(folder, FETCHING):
        fetched = fetch_pictures(known, folder / "pictures", config, reporter, trusted)
    unreachable = sum(problem == "unreachable" for problem, _ in fetched.problems.values())
    if unreachable:
        reporter.say(
            f"{unreachable:,} pictures were out of reach for the moment; the same command, run "
            "again, asks for them once more"
        )
    refused = sum(problem in REFUSED for problem, _ in fetched.problems.values())
    if refused:
        reporter.say(
            f"{refused:,} pictures were refused, or are none; --again asks for them once more"
        )
    return _found(urls, fetched.files, fetched.problems, NO_URL)


def pictures_in(folder: Path, items: Sequence[str]) -> Found:
    """The pictures of items in a folder of files named after them."""
    folders = PictureFolders([folder])
    found = ((item, folders.find(item)) for item in items)
    return _found(items, {item: path for item, path in found if path}, {}, NO_FILE)


def _found(
    items: Iterable[str],
    files: dict[str, Path],
    problems: Mapping[str, tuple[str, str]],
    otherwise: str,
) -> Found:
    without = (item for item in items if item not in files)
    told = [Problem(item, "image", *problems.get(item, ("missing", otherwise))) for item in without]
    return Found(files, told)
