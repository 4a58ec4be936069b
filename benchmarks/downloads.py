"""How fast pictures are fetched from a server on the same machine, and in how much memory.

python -m benchmarks.downloads [--quick] [--json FILE]

20,000 pictures of 20 kB (--quick: 4,000), eight requests at once. Reference: the same requests by
the same library, nothing kept. Floors: the same bytes through bare sockets, eight at once, and the
same files written and flushed to disk one after the other. The server takes its share of the cores.
Memory: the peak of a new process for a fifth of the pictures and for all of them.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx2

from benchmarks.output import Row, print_rows, write_rows
from benchmarks.picture_server import picture
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.pictures import fetch_pictures
from pipelines.memory import peak_bytes
from pipelines.progress import Reporter

AT_ONCE = 8
HEAD_END = b"\r\n\r\n"


@contextmanager
def picture_server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.picture_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def fetched(url: str, count: int, folder: Path) -> dict[str, float]:
    """The rate and the peak memory of a new process that fetches."""
    command = [sys.executable, "-m", "benchmarks.downloads", "--child", url, str(count)]
    told = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(told)


def fetch(url: str, count: int, folder: Path) -> None:
    """What that process does."""
    urls = {f"B{n:08d}": f"{url}/{n}.jpg" for n in range(count)}
    config = FetchConfig(connections=AT_ONCE)
    start = time.perf_counter()
    got = fetch_pictures(urls, folder, config, Reporter(quiet=True), [url])
    seconds = time.perf_counter() - start
    if len(got.files) < count:
        raise SystemExit(f"lost {len(got.problems)} of {count} pictures")
    print(json.dumps({"rate": count / seconds, "bytes": peak_bytes()}))


async def bare_requests(url: str, count: int) -> float:
    """Requests a second by the library alone."""
    numbers = iter(range(count))

    async def work(client: httpx2.AsyncClient) -> None:
        for n in numbers:
            async with client.stream("GET", f"{url}/{n}.jpg") as response:
                async for _ in response.aiter_raw():
                    pass

    async with httpx2.AsyncClient() as client:
        start = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE)))
        return count / (time.perf_counter() - start)


async def bare_sockets(url: str, count: int) -> float:
    """Answers a second through sockets without any library."""
    numbers, port, size = iter(range(count)), int(url.rpartition(":")[2]), len(picture())

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in numbers:
            writer.write(f"GET /{n}.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(HEAD_END)
            await reader.readexactly(size)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - start)


def written(count: int, folder: Path) -> float:
    """Pictures a second that the disk takes one after the other, each flushed."""
    body = picture()
    start = time.perf_counter()
    for n in range(count):
        with (folder / f"{n}.jpg").open("wb", buffering=0) as file:
            file.write(body)
            os.fsync(file.fileno())
    return count / (time.perf_counter() - start)


def measure(count: int) -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as root, picture_server() as url:
        few = fetched(url, count // 5, Path(root) / "few")
        all_of_them = fetched(url, count, Path(root) / "all")
        again = fetched(url, count, Path(root) / "all")
        bare = asyncio.run(bare_requests(url, count))
        sockets = asyncio.run(bare_sockets(url, count))
        (Path(root) / "disk").mkdir()
        disk = written(count // 5, Path(root) / "disk")
    rate = all_of_them["rate"]
    floor = 1 / (1 / sockets + 1 / disk)
    name = f"downloads/{count}"
    return [
        Row(f"{name}/pictures", rate, "pictures/s", bare, rate / bare, floor, rate / floor),
        Row(f"{name}/library_alone", bare, "pictures/s"),
        Row(f"{name}/sockets_alone", sockets, "pictures/s"),
        Row(f"{name}/disk_alone", disk, "pictures/s"),
        Row(f"{name}/again", again["rate"], "pictures/s"),
        Row(f"{name}/peak", all_of_them["bytes"] / 2**20, "MiB"),
        Row(f"{name}/peak_of_a_fifth", few["bytes"] / 2**20, "MiB"),
    ]


@click.command()
@click.option("--quick", is_flag=True, help="A fifth of the pictures.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows there, too.")
@click.option("--child", nargs=3, hidden=True)
def main(quick: bool, file: Path | None, child: tuple[str, str, str] | None) -> None:
    """How fast pictures are fetched, and in how much memory."""
    if child:
        fetch(child[0], int(child[1]), Path(child[2]))
        return
    rows = measure(4_000 if quick else 20_000)
    print_rows("pictures from a server on this machine", rows)
    if file:
        write_rows(file, rows)


if __name__ == "__main__":
    main()
