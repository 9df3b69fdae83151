"""Networks: which client addresses count as one client, and which as one network.

An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2), as dual-stack sockets report it, counts as IPv4. A string that
is no address, such as the empty name of a Unix socket's peer, is returned as it is, truncated to `MAX_LENGTH`.
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

#: The most characters that `network_of` and `client_of` return.
MAX_LENGTH = 45


def network_of(address: str) -> str:
    """The network of an address: the /24 of an IPv4 address, the /64 of an IPv6 one."""
    return _enclosing(address, ipv4_prefix=24)


def client_of(address: str) -> str:
    """The client at an address: one IPv4 address, or a /64 of IPv6, which is the smallest network that a site gets."""
    return _enclosing(address, ipv4_prefix=32).removesuffix("/32")


# Called for each anonymous request.
@lru_cache(maxsize=4096)
def _enclosing(address: str, *, ipv4_prefix: int) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:MAX_LENGTH]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            # int() drops the zone (fe80::1%eth0), which is the receiver's own name for a link.
            return str(IPv6Network((int(parsed), 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(IPv4Network((parsed, ipv4_prefix), strict=False))
