"""A lock that is an object in an object store, made only where there is none.

Its holder renews it. Where the holder is dead, or has not renewed it for some minutes, the next
process takes it over.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from signal import SIGINT, pthread_kill
from threading import Event, Thread, main_thread
from typing import NamedTuple

from extract.errors import UserError
from extract.files import key_of, store_of
from extract.holders import Holder, refusal

# In seconds.
RENEWED_EVERY = 30.0
ABANDONED_AFTER = 300.0
# What a store calls it that something else is there, or nothing any more, or just being written.
CONDITION_FAILED = {
    "PreconditionFailed",
    "412",
    "ConditionalRequestConflict",
    "409",
    "NoSuchKey",
    "404",
}


@contextmanager
def leased(path: Path, holder: Holder) -> Iterator[None]:
    """Hold the lock object `path` of the folder that it lies in; does not wait.

    Raises:
        UserError: Another process holds it; or took it over because this one did not renew it.
    """
    lease = _Lease(path, holder)
    lease.take()
    renewing = Thread(target=lease.keep, name=f"renewing {path}", daemon=True)
    renewing.start()
    try:
        yield
        lease.check()
    except KeyboardInterrupt as error:
        if not lease.lost:
            raise
        raise lease.taken_over() from error
    finally:
        lease.ended.set()
        renewing.join(5)  # not for ever; a late renewal of what is gone has no effect
        lease.give_back()


class _Found(NamedTuple):
    """A lock object as it was found."""

    holder: Holder | None
    version: str
    age: float


class _Lease:
    """The lock object.

    Every write of it is on condition of what was there before, so that of two processes only one
    succeeds. A store that ignores conditions makes it a matter of luck in the first milliseconds.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        self.folder, self.holder = path.parent, holder
        self.lost, self.ended = False, Event()
        self._store, self._key = store_of(path), key_of(path)
        self._version = ""

    def take(self) -> None:
        there = self._find()
        if there and not _is_abandoned(there):
            raise refusal(self.folder, there.holder)
        if not self._put({"IfMatch": there.version} if there else {"IfNoneMatch": "*"}):
            found = self._find()
            raise refusal(self.folder, found.holder if found else None)

    def check(self) -> None:
        """Make sure at the end that nobody took over: an interrupt may have been ignored."""
        self.lost = self.lost or not self._is_ours(self._find())
        if self.lost:
            raise self.taken_over()

    def taken_over(self) -> UserError:
        return UserError(
            f"this process was held up for so long that another one took {self.folder} over; run "
            "the command again when that one has ended"
        )

    def keep(self) -> None:
        """Renew the lock until `ended`; where it was lost, interrupt the main thread."""
        while not self.ended.wait(RENEWED_EVERY):
            # What is out of reach now may be back the next time, in time.
            with suppress(Exception):
                self._renew()
            if self.lost:
                # A real signal, which wakes a thread that sleeps or waits for a file.
                pthread_kill(main_thread().ident or 0, SIGINT)
                return

    def give_back(self) -> None:
        # The work is done; a lock that cannot be removed is taken over by who comes next.
        with suppress(Exception):
            if not self.lost and self._is_ours(self._find()):
                self._store.rm_file(self._key)

    def _renew(self) -> None:
        self.holder = replace(self.holder, renewed=self.holder.renewed + 1)
        self.lost = not self._put({"IfMatch": self._version})

    def _is_ours(self, there: _Found | None) -> bool:
        return bool(there and there.holder and there.holder.token == self.holder.token)

    def _find(self) -> _Found | None:
        bucket, _, key = self._key.partition("/")
        try:
            head = self._store.call_s3("head_object", Bucket=bucket, Key=key)
            text = self._store.cat_file(self._key)
        except FileNotFoundError:
            return None
        # Both times are the server's, so our own clock may be wrong.
        now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (now - head["LastModified"]).total_seconds()
        return _Found(Holder.parse(text), head["ETag"], age)

    def _put(self, condition: dict[str, str]) -> bool:
        """Write the lock; False where the condition does not hold, and what is there not ours."""
        data = self.holder.dump().encode()
        try:
            self._version = self._store.pipe_file(self._key, data, **condition)["ETag"]
        except OSError as error:
            if _error_code(error) not in CONDITION_FAILED:
                raise
            # It may be our own that was sent twice, because the first answer was lost.
            there = self._find()
            self._version = there.version if there else ""
            return self._is_ours(there)
        return True


def _is_abandoned(there: _Found) -> bool:
    return there.age > ABANDONED_AFTER or bool(there.holder and there.holder.is_dead)


def _error_code(error: OSError) -> str:
    """The store's own word for an error."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
