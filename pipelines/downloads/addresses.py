"""Where a URL may lead: to public addresses over HTTP, and to the host that the user named.

Catalogues and redirects come from others: one that names ``file:///etc/passwd``, this machine or
one beside it must not make the downloader ask there. Names are resolved before the request and
again by it, so this guards against what stands in data, not against a name server that lies.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.request import getproxies, proxy_bypass

import httpx2

from extract.errors import UserError
from pipelines.downloads.errors import FetchError

SCHEMES = ("http", "https")
EXAMPLE = "http://mirror.example.org:8000/amazon"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Of translators (RFC 6052), and of old (RFC 4291).
IPV4_IN_THE_END = [ipaddress.IPv6Network(each) for each in ("64:ff9b::/96", "::/96")]


class Gate:
    """Lets URLs through, or refuses them.

    Args:
        trusted: URLs that the user named: what their hosts resolve to is allowed though it may not
            be public.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [_host(httpx2.URL(url)) for url in trusted]
        self._verdicts: dict[tuple[str, str], str] = {}

    async def check(self, url: httpx2.URL) -> None:
        """Refuse a URL that leads where it must not.

        Raises:
            FetchError: It does, or its host is unknown.
        """
        if url.scheme not in SCHEMES:
            raise FetchError("refused", f"{_shown(url)} is not of http or https")
        if not url.host or not _has_port(url):
            raise FetchError("refused", f"{_shown(url)} names no host, or no port")
        place = (url.scheme, _host(url))
        if place not in self._verdicts:
            self._verdicts[place] = await self._verdict(*place)
        if self._verdicts[place]:
            raise FetchError("refused", f"{_shown(url)} leads to {self._verdicts[place]}")

    async def _verdict(self, scheme: str, host: str) -> str:
        """What is wrong with a host; empty where nothing is."""
        if _by_proxy(scheme, host) and not (_is_address(host) or host == "localhost"):
            return ""  # the proxy looks the name up
        found = await _addresses(host)
        outside = sorted(address for address in found if not _is_public(address))
        if not outside:
            return ""
        allowed = set()
        for trusted in self._trusted:
            with suppress(FetchError):  # one that is not known allows nothing
                allowed |= await _addresses(trusted)
        strange = [address for address in outside if address not in allowed]
        return f"the address {strange[0]}, which is not public" if strange else ""


def check_base(url: str) -> None:
    """Find out before anything is asked for whether something can be.

    Raises:
        UserError: It is no URL of a server.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise UserError(f"--url takes a URL such as {EXAMPLE}, found {url!r}: {error}") from error
    if parsed.scheme not in SCHEMES or not parsed.host or not _has_port(parsed):
        raise UserError(f"--url takes a URL such as {EXAMPLE}, found {url!r}")


def _has_port(url: httpx2.URL) -> bool:
    return 0 < (80 if url.port is None else url.port) < 65536


async def _addresses(host: str) -> set[str]:
    """The addresses of a host.

    Raises:
        FetchError: There is none.
    """
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(
            "unreachable", f"the host {host} is not known: {error}", again=True
        ) from None
    return {str(entry[4][0]) for entry in entries}


def _is_public(address: str) -> bool:
    reached = _reached(ipaddress.ip_address(address.partition("%")[0]))
    return reached.is_global and not reached.is_multicast


def _reached(address: Address) -> Address:
    """The IPv4 address that an IPv6 one is another form of, as ``::ffff:127.0.0.1``; or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in IPV4_IN_THE_END):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _by_proxy(scheme: str, host: str) -> bool:
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)


def _host(url: httpx2.URL) -> str:
    """A host as it goes over the wire: Python would look up other letters for some."""
    return url.raw_host.decode("ascii")


def _shown(url: httpx2.URL) -> str:
    text = str(url)
    return text if len(text) <= 120 else f"{text[:120]}..."
