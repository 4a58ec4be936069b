"""Amazon S3, and servers that speak its language, as folders and files.

The server's address and the credentials come from where every S3 program finds them:
``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``~/.aws/`` and so on.
"""

import os
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from fsspec import AbstractFileSystem
from fsspec.exceptions import FSTimeoutError
from s3fs import S3FileSystem
from upath.implementations.cloud import S3Path
from upath.registry import register_implementation

from extract.errors import UserError

OPTIONS: dict[str, Any] = {
    # Another process may be writing, so nothing that was seen is taken for what is there now.
    "use_listings_cache": False,
    # The libraries' own patience with a server that is out of reach is minutes.
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"mode": "standard", "total_max_attempts": 3},
    },
}
SECONDS_TO_ANSWER = 15.0  # of the first request, before any work is done
GO_ON = "what is finished is kept, and the same command goes on from there"


class Store(S3FileSystem):
    """The file system, with fewer tries on top of those of the library below it."""

    retries = 2
    protocol = ("s3",)


class StorePath(S3Path):
    """A path in a bucket."""

    __slots__ = ()

    @classmethod
    def _fs_factory(cls, urlpath: str, protocol: str, storage_options: Any) -> AbstractFileSystem:
        return Store(**OPTIONS)

    @property
    def fs(self) -> AbstractFileSystem:
        """The file system of this process.

        It is asked for anew, because a path that keeps its file system is of no use to a worker
        process that was forked: connections do not survive that.
        """
        return self._fs_factory("", self.protocol, {})

    def read_bytes(self) -> bytes:
        """The object's content, with one request: opening it, or fetching parts, would take two."""
        return self.fs.cat_file(self.path, max_concurrency=1)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object of just this name, which may hold what elsewhere is a pattern."""
        if not missing_ok and not self.exists():
            raise FileNotFoundError(str(self))
        self.fs.rm_file(self.path)


register_implementation("s3", StorePath, clobber=True)


def check_bucket(path: StorePath) -> None:
    """Make sure that the server answers and has the bucket, with one request.

    Raises:
        UserError: It does not, or refuses.
    """
    bucket, _, prefix = path.path.partition("/")
    try:
        path.fs.call_s3(
            "list_objects_v2",
            Bucket=bucket,
            Prefix=prefix,
            MaxKeys=1,
            timeout=SECONDS_TO_ANSWER,
        )
    except FileNotFoundError as error:
        raise UserError(
            f"there is no bucket {bucket!r} at {_server()}; make it, or correct --root"
        ) from error
    except PermissionError as error:
        raise UserError(
            f"{_server()} refuses the bucket {bucket!r}: {str(error).rstrip('.')}; check "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do"
        ) from error
    except (BotoCoreError, FSTimeoutError, OSError, ValueError) as error:
        raise UserError(tell_error(error) or f"{_server()}: {error}") from error


def tell_error(error: BaseException) -> str | None:
    """What to tell about an error of the store; None for any other error."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"{error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for "
            f"{_server()}"
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | FSTimeoutError):
        return f"{_server()} is out of reach; check AWS_ENDPOINT_URL and the network; {GO_ON}"
    if isinstance(error, BotoCoreError):
        return f"the object store at {_server()} failed: {error}; {GO_ON}"
    return None


def _server() -> str:
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return named or "Amazon S3"
