"""Paths that a user gives: on a disk, or in an object store as ``s3://BUCKET/PREFIX``."""

import sys
from pathlib import Path
from typing import Any, cast

import click

from extract.errors import UserError


def open_root(text: str) -> Path:
    """A workspace's folder, which need not exist yet.

    Args:
        text: A path, or ``s3://BUCKET/PREFIX``.

    Raises:
        UserError: It is in an object store that cannot be used: of another kind, without its
            libraries, out of reach, or without such a bucket.
    """
    return open_path(text, probe=True)


def open_path(text: str, probe: bool = False) -> Path:
    """Any path.

    Args:
        text: A path, or ``s3://BUCKET/KEY``.
        probe: Whether to make sure that the object store answers.

    Raises:
        UserError: As `open_root`.
    """
    protocol, is_url, key = text.partition("://")
    if not is_url:
        return Path(text)
    if protocol != "s3" or key[:1] in ("", "/"):
        raise UserError(f"expected a path or s3://BUCKET/PREFIX, found {text!r}")
    try:
        from pipelines.object_store import StorePath, check_bucket
    except ImportError as error:
        raise UserError(
            f"{text} is in an object store, which needs the extra s3 ({error}); install it with "
            "pip install 'mmrec[s3]'"
        ) from error
    path = StorePath(text.rstrip("/"))
    if probe:
        check_bucket(path)
    # It has the methods of a Path that are used here, and only `extract.files` tells them apart;
    # a common supertype of both would have to be named wherever a path is handed on.
    return cast(Path, path)


def tell_store_error(error: BaseException) -> str | None:
    """What to tell about an error of an object store; None for any other error."""
    if "pipelines.object_store" not in sys.modules:
        return None
    from pipelines.object_store import tell_error

    return tell_error(error)


class AnyPath(click.ParamType):
    """The type of an option that takes a path on a disk or in an object store.

    Args:
        root: Whether it is a workspace's, and so must answer.
    """

    name = "path"

    def __init__(self, root: bool = False) -> None:
        self._root = root

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        return open_path(value, self._root) if isinstance(value, str) else value
