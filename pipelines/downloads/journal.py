"""What became of each picture that was asked for, kept so that nothing is asked for twice.

One line of JSON each, the last of an item counts. It is written after the picture, and not flushed
to disk one by one: a line that is lost costs one picture that is asked for again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from extract.files import naming

JOURNAL = ".journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """What became of one picture.

    Attributes:
        item: The item's id.
        url: Where it was asked for.
        file: The picture's name in the folder; empty where there is none.
        size: Its bytes.
        problem: Why there is none, in the words of the ledger.
        detail: More, for people.
    """

    item: str
    url: str
    file: str = ""
    size: int = 0
    problem: str = ""
    detail: str = ""


class Journal:
    """The journal of a folder of pictures.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / JOURNAL
        self.entries = {entry.item: entry for entry in _read(self._path)}

    def holds(self, entry: Entry) -> bool:
        """Whether the picture of an entry is there as it was written."""
        try:
            return bool(entry.file) and (self._folder / entry.file).stat().st_size == entry.size
        except OSError:
            return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the file open; what an earlier process tore ends with its line."""
        torn = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
        with naming(self._path), self._path.open("a", encoding="utf-8") as self._file:
            if torn:
                self._file.write("\n")
            yield

    def add(self, entries: Sequence[Entry]) -> None:
        """Write down what became of some pictures."""
        self.entries |= {entry.item: entry for entry in entries}
        self._file.write("".join(json.dumps(asdict(entry)) + "\n" for entry in entries))
        self._file.flush()


def _read(path: Path) -> Iterator[Entry]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):  # torn, or of another version
                continue
