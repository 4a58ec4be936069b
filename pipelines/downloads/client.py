"""Polite requests: few at once, each redirect looked at, another attempt where it may help."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from typing import Self, TypeVar

import httpx2

from extract.errors import UserError
from pipelines.downloads.addresses import Gate
from pipelines.downloads.errors import FetchError
from pipelines.downloads.manners import LONGEST_WAIT, FetchConfig, asked_to_wait, back_off

MOST_REDIRECTS = 5
# A host of which so many requests in a row came to nothing is left alone for the rest.
MOST_LOST_IN_A_ROW = 20
# The same of requests that were refused, or answered by a page, as to somebody who is not welcome.
MOST_REFUSED_IN_A_ROW = 100
GONE = (404, 410)
FOR_THE_MOMENT = (408, 425, 429)

# Seconds.
WORTH_SAYING = 5.0

T = TypeVar("T")


@dataclass
class _Host:
    """What is known of a server.

    Attributes:
        slots: Bounds the requests at once.
        quiet_until: The loop's time before which it asked to be left alone.
        closed: Why it is asked no more; empty while it is.
        lost: How many requests in a row came to nothing.
        refused: How many in a row were refused.
    """

    slots: asyncio.Semaphore
    quiet_until: float = field(default=0.0)
    closed: str = field(default="")
    lost: int = field(default=0)
    refused: int = field(default=0)


class Client:
    """Asks servers; an asynchronous context.

    Args:
        config: How to behave.
        trusted: URLs that the user named, see `Gate`.
        say: Told what takes long.

    Raises:
        UserError: The environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        config: FetchConfig,
        trusted: Sequence[str] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self._say = config, say
        self._gate = Gate(trusted)
        self._chance = random.Random()
        self._hosts: dict[str, _Host] = defaultdict(
            lambda: _Host(asyncio.Semaphore(config.connections))
        )
        try:
            self._http = httpx2.AsyncClient(
                timeout=httpx2.Timeout(config.timeout, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
                # The bytes as they are published: nothing here unpacks them on the way.
                headers={"User-Agent": f"mmrec/{version('mmrec')}", "Accept-Encoding": "identity"},
            )
        except (ImportError, ValueError) as error:
            raise UserError(
                f"the proxy that the environment names cannot be used ({error}); see HTTP_PROXY, "
                "HTTPS_PROXY and ALL_PROXY"
            ) from error
        self._http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def persevere(
        self,
        url: str,
        once: Callable[[], Awaitable[T]],
        moved_on: Callable[[], bool] = lambda: False,
        tell: Callable[[str, float], None] = lambda what, pause: None,
    ) -> T:
        """One thing, attempted again where that may help.

        Args:
            url: What is asked for.
            once: One attempt; raises `FetchError`.
            moved_on: Whether an attempt that failed brought so much that it does not count.
            tell: Called before each pause with what went wrong and the seconds.

        Raises:
            FetchError: The last one.
        """
        host, failed = self._host(url), 0
        while True:
            if host.closed:
                raise FetchError("unreachable", host.closed)
            try:
                got = await once()
            except FetchError as error:
                failed = 1 if moved_on() else failed + 1
                if not error.again or failed >= self.config.attempts:
                    self._count_lost(host, error)
                    raise
                pause = back_off(failed, self.config.wait, self._chance)
                pause = max(pause, error.wait or 0.0)
                tell(error.detail, pause)
                await asyncio.sleep(pause)
            else:
                host.lost = host.refused = 0
                return got

    @asynccontextmanager
    async def open(
        self, url: str, headers: Mapping[str, str] | None = None, also: Collection[int] = ()
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to one request, its body not yet read, after redirects.

        Args:
            url: What is asked for.
            headers: To send along.
            also: Statuses that are answers, too, beside 200.

        Raises:
            FetchError: There is no such answer.
        """
        try:
            target = httpx2.URL(url)
            for _ in range(MOST_REDIRECTS + 1):
                async with asyncio.timeout(self.config.timeout):
                    await self._gate.check(target)
                async with AsyncExitStack() as stack:
                    response = await self._send(target, headers or {}, stack)
                    if response.next_request is None:
                        _check_status(response, also)
                        yield response
                        return
                    target = response.next_request.url
        except httpx2.TransportError as error:
            told = str(error) or type(error).__name__
            raise FetchError("unreachable", told, again=True) from error
        except TimeoutError as error:
            told = f"not done within {self.config.timeout:g} s"
            raise FetchError("unreachable", told, again=True) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise FetchError("refused", f"{url[:120]!r} is no URL: {error}") from error
        raise FetchError("refused", f"more than {MOST_REDIRECTS} redirects")

    async def _send(
        self, url: httpx2.URL, headers: Mapping[str, str], stack: AsyncExitStack
    ) -> httpx2.Response:
        host = self._hosts[url.host]
        await stack.enter_async_context(host.slots)
        await _quiet(host)
        async with asyncio.timeout(self.config.timeout):
            request = self._http.build_request("GET", url, headers=dict(headers))
            try:
                response = await self._http.send(request, stream=True)
            except (OverflowError, ValueError) as error:  # of odd parts of a URL
                raise FetchError("refused", f"cannot be asked for: {error}") from error
        stack.push_async_callback(response.aclose)
        wait = asked_to_wait(response.headers.get("Retry-After"))
        if wait is not None and response.status_code >= 400:
            self._leave_alone(host, url.host, wait)
        return response

    def _host(self, url: str) -> _Host:
        try:
            return self._hosts[httpx2.URL(url).host]
        except (httpx2.InvalidURL, UnicodeError):
            return self._hosts[""]

    def _leave_alone(self, host: _Host, name: str, wait: float) -> None:
        now = asyncio.get_running_loop().time()
        told = f"{name} asks to be left alone for {wait:,.0f} s"
        if wait > LONGEST_WAIT:
            host.closed = told
        elif wait >= WORTH_SAYING and host.quiet_until <= now:
            self._say(told)
        host.quiet_until = max(host.quiet_until, now + wait)

    def _count_lost(self, host: _Host, error: FetchError) -> None:
        host.lost = host.lost + 1 if error.again else 0
        host.refused += error.problem in ("refused", "unreadable")
        enough = host.lost >= MOST_LOST_IN_A_ROW or host.refused >= MOST_REFUSED_IN_A_ROW
        if enough and not host.closed:
            count = max(host.lost, host.refused)
            host.closed = f"{count} requests in a row came to nothing, last: {error.detail}"
            self._say(host.closed)


async def _quiet(host: _Host) -> None:
    """Wait as long as a host asked for, which it may prolong meanwhile."""
    loop = asyncio.get_running_loop()
    while host.quiet_until > loop.time() and not host.closed:
        await asyncio.sleep(host.quiet_until - loop.time())
    if host.closed:
        raise FetchError("unreachable", host.closed)


def _check_status(response: httpx2.Response, also: Collection[int]) -> None:
    status = response.status_code
    if status == 200 or status in also:
        return
    told = f"HTTP {status} {response.reason_phrase}".strip()
    if status in GONE:
        raise FetchError("missing", told)
    if status in FOR_THE_MOMENT or status >= 500:
        wait = asked_to_wait(response.headers.get("Retry-After"))
        raise FetchError("unreachable", told, again=wait is None or wait <= LONGEST_WAIT, wait=wait)
    raise FetchError("empty" if status == 204 else "refused", told)
