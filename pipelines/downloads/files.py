"""One big file: resumed by range where the server can, checked, whole or not there."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from extract.errors import UserError
from pipelines.downloads.client import Client
from pipelines.downloads.errors import FetchError
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.transfer import Transfer
from pipelines.progress import Reporter


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
    async with Client(config, urls, reporter.say) as client:
        for url in urls:
            transfer = Transfer(client, url, path, reporter, magic)
            try:
                await client.persevere(url, transfer.attempt, transfer.moved_on, transfer.tell)
            except FetchError as failure:
                told.append(f"{url}: {failure.detail}")
            else:
                return []
    return told
