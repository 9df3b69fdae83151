"""The guard: which addresses a request may go to when someone else has chosen the URL (server-side request forgery).

Public addresses only, unless the operator allows a host. The names and spellings that are refused here would be refused
by the address that they resolve to as well; refusing them early needs no lookup, and does not depend on how a resolver
interprets them.
"""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import httpx2

from app.clients.errors import AddressRefused

#: IANA's special-purpose IPv4 addresses (RFC 6890 and successors), and one that is public by its number only.
_SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, for carrier-grade NAT; Alibaba's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform services
        "169.254.0.0/16",  # link-local; the metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
    )
)
#: All of IPv6 that is global unicast (RFC 4291 section 2.4, IANA). Outside it are loopback, unique local, link-local,
#: site-local and multicast addresses, IPv4-mapped and IPv4-compatible ones, and the prefixes of NAT64 (RFC 6052, 8215).
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which has an IPv4 address in it
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which has an IPv4 address in it
        "3fff::/20",  # documentation
    )
)
#: The interface identifiers of ISATAP (RFC 5214 section 6.1), which have an IPv4 address in them.
_ISATAP = {0x00005EFE, 0x02005EFE}

#: RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of .internal, where clouds have metadata.google.internal.
_SPECIAL_DOMAINS = ("localhost", "local", "internal", "home.arpa")
_METADATA_NAMES = {"metadata", "metadata.goog", "instance-data"}

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
# https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to a host of the public Internet, as far as its number shows.

    A network may translate other prefixes to IPv4 (RFC 6052 section 2.2), which no number shows.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address not in _GLOBAL_IPV6 or address.scope_id is not None:
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP and not any(address in network for network in _SPECIAL_IPV6)


class Guard:
    """Refuses URLs, host names and addresses that are not public; immutable, and so thread-safe.

    ``allowed_hosts`` are exceptions: a host name, exactly, whatever it resolves to; an address; or a network in CIDR
    notation. Raises ``ValueError`` for an entry that is none of these.
    """

    def __init__(self, *, allowed_hosts: Iterable[str] = ()) -> None:
        names: set[str] = set()
        networks: list[IPv4Network | IPv6Network] = []
        for host in allowed_hosts:
            network = _network(host)
            if network is not None:
                networks.append(network)
            elif _is_host_name(name := host.lower().removesuffix(".")):
                names.add(name)
            else:
                raise ValueError("must be host names, IP addresses or networks")
        self._names = frozenset(names)
        self._networks = tuple(networks)

    def check_url(self, url: str) -> None:
        """Raise ``AddressRefused`` for a URL that is refused without a lookup, as when it is stored.

        A URL that passes may still resolve to a refused address when a request is made.
        """
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL:
            raise AddressRefused("The URL is malformed.") from None
        if parsed.scheme not in {"http", "https"} or parsed.userinfo:
            raise AddressRefused("The URL must be http or https, without user information.")
        if parsed.port is not None and not 1 <= parsed.port <= 65535:
            raise AddressRefused("The URL has a port that does not exist.")
        self.check_host(parsed.raw_host.decode("ascii"))

    def has_exception_for(self, url: str) -> bool:
        """Whether the operator allows the host of a URL by name or address; ``url`` has passed `check_url`."""
        host = httpx2.URL(url).host.lower().removesuffix(".")
        address = _address(host)
        return host in self._names or (address is not None and any(address in network for network in self._networks))

    def check_host(self, host: str) -> None:
        """Raise ``AddressRefused`` for a host that is refused without a lookup; ``host`` is ASCII, as in IDNA."""
        name = host.lower().removesuffix(".")
        literal = _address(name)
        if literal is not None:
            self.check_addresses(name, [name])
        elif name not in self._names and (not _is_host_name(name) or _is_special(name)):
            raise _refused(host)

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Raise ``AddressRefused`` unless each of the addresses that ``host`` resolves to may be connected to."""
        if host.lower().removesuffix(".") in self._names:
            return
        if not all(self._allows(address) for address in addresses):
            raise _refused(host)

    def _allows(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and (is_public(parsed) or any(parsed in network for network in self._networks))


def _refused(host: str) -> AddressRefused:
    return AddressRefused(f"{host[:253]!a} is not a public address.")


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_host_name(name: str) -> bool:
    # A last label that is a number makes it an IPv4 address in an unusual spelling: 127.1, 0x7f.1, 2130706433.
    return _HOST_NAME.fullmatch(name) is not None and not _NUMBER.fullmatch(name.rpartition(".")[2])


def _is_special(name: str) -> bool:
    return name in _METADATA_NAMES or f".{name}".endswith(tuple(f".{domain}" for domain in _SPECIAL_DOMAINS))
