"""Finding the pictures of items in folders, and placing them in a data set."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from extract.errors import UserError
from extract.files import is_remote, remove_others, upload
from pipelines.progress import Reporter

# Writes one picture to the path it is given, where nothing stands yet.
Draw = Callable[[Path], None]

# In order of preference, where a folder has one item's picture in several formats.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# How many pictures wait on the disk to be uploaded together.
UPLOADED_AT_ONCE = 256


class PictureFolders:
    """Folders of pictures, the preferred one first.

    Args:
        folders: Each holds pictures named after items, or in places that a column tells.

    Raises:
        UserError: A folder does not exist.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"there is no folder of pictures {folder}; check --images")
        self._folders = [(folder.resolve(), _by_stem(folder)) for folder in folders]

    def find(self, item_id: str, named: str | None = None) -> Path | None:
        """The picture of an item, or None.

        Args:
            item_id: Its id; the picture may be called so, with a suffix of `SUFFIXES`.
            named: A path under one of the folders; one that leads out of it is ignored.
        """
        for folder, by_stem in self._folders:
            if named:
                path = Path(os.path.normpath(folder / named))
                if path.is_relative_to(folder) and path.is_file():
                    return path
            if item_id in by_stem:
                return folder / by_stem[item_id]
        return None


def write_pictures(folder: Path, pictures: Mapping[str, Draw], reporter: Reporter) -> None:
    """Write a folder of pictures in place of an earlier one.

    Args:
        folder: The folder.
        pictures: File name to what writes it.
        reporter: Where to tell progress.
    """
    if is_remote(folder):
        _upload_pictures(folder, pictures, reporter)
        return
    # Into a new folder, since the earlier one may be where the pictures come from.
    new = folder.with_name(".images.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    with reporter.bar("pictures", len(pictures), "pictures") as advance:
        for name, draw in pictures.items():
            draw(new / name)
            advance()
    # Removed only when the new folder is in its place: it may hold the only copies.
    old = folder.with_name(".images.old")
    if folder.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _upload_pictures(folder: Path, pictures: Mapping[str, Draw], reporter: Reporter) -> None:
    every = list(pictures)
    with reporter.bar("pictures", len(every), "pictures") as advance:
        for first in range(0, len(every), UPLOADED_AT_ONCE):
            names = every[first : first + UPLOADED_AT_ONCE]
            with TemporaryDirectory(prefix="mmrec-") as temporary:
                for name in names:
                    pictures[name](Path(temporary) / name)
                upload(Path(temporary), names, folder)
            advance(len(names))
    remove_others(folder, pictures)


def place(source: Path, path: Path) -> None:
    """Give a picture a second name, or copy it where the file system cannot do that."""
    try:
        # The resolved file, since a link to a link would lead out of the data set.
        os.link(source.resolve(), path)
    except OSError:
        shutil.copyfile(source, path)


def _by_stem(folder: Path) -> dict[str, str]:
    """File name by what stands before its last dot, of the preferred suffix."""
    ranked = []
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in SUFFIXES:
            ranked.append((-SUFFIXES.index(suffix.lower()), entry.name, stem))
    return {stem: name for _, name, stem in sorted(ranked)}
