"""The guard against a table of spellings: what is no public address is refused, whatever it looks like."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from app.clients.addresses import Guard, is_public
from app.clients.errors import AddressRefused, InvalidRequest, OutboundError
from app.clients.http import APIClient
from tests.outbound.misbehaving import Server

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
    "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::1", "2003::1", "2606:4700:4700::1111",
    "2a00:1450:4001::1", "3ffe::1", "3fff:1000::1",
]  # fmt: skip
NOT_PUBLIC = [
    # This network, private, shared, loopback.
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255",
    "127.0.0.0", "127.0.0.1", "127.255.255.255",
    # Link-local, metadata, platform services.
    "168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255",
    # Private, protocol assignments, documentation, relays of 6to4, benchmarks.
    "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255",
    "192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255",
    "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
    # Multicast, reserved, broadcast.
    "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255",
    # Unspecified, loopback, IPv4-compatible, IPv4-mapped, IPv4-translated.
    "::", "::1", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    # NAT64, discard, dummy, Teredo, benchmarks, ORCHID, documentation, 6to4, segment routing.
    "64:ff9b::127.0.0.1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "100::1", "100:0:0:1::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff:ffff::1",
    "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1",
    # ISATAP, unique local and AWS's metadata, link-local, site-local, multicast.
    "2a00:1450:4001::5efe:127.0.0.1", "2a00:1450:4001::200:5efe:10.0.0.1", "fc00::1", "fd00:ec2::254", "fdff::1",
    "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "ffff::1",
]  # fmt: skip
REFUSED_URLS = [
    # IPv4 as browsers and C libraries read it.
    "http://2130706433/", "http://0x7f000001/", "http://0X7F.1/", "http://017700000001/", "http://0177.0.0.1/",
    "http://127.1/", "http://127.0.1/", "http://0/", "http://0x/", "http://127.0.0.1./", "http://127.0.0.1:80/",
    "http://127.0.0.256/", "http://127.0.0.1.1/", "http://1.2.3.4.5/", "http://00000127.0.0.1/", "http://a.0x1/",
    "http://192.168.257/", "http://3232235777/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://0251.0376.1/",
    # Other digits and dots that become them.
    "http://127。0。0。1/", "http://①②⑦.0.0.1/", "http://１２７.0.0.1/", "http://127．0．0．1/",
    # IPv6 in its spellings, with zones and with IPv4 inside.
    "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[0000::0001]/", "http://[::]/", "http://[::ffff:7f00:1]/",
    "http://[::FFFF:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/", "http://[2606:4700:4700::1111%25eth0]/", "http://[::1]:8080/",
    # Names of this machine and of metadata services.
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/", "http://ⓛocalhost/",
    "http://metadata/", "http://metadata.google.internal/", "http://METADATA.google.internal./",
    "http://metadata.goog/", "http://instance-data/", "http://printer.local/", "http://db.internal/",
    "http://router.home.arpa/", "http://localhost.local/",
    # What is no host name.
    "http://%31%32%37.0.0.1/", "http://127.0.0.1%2f.a.test/", "http://a..test/", "http://.a.test/", "http://./",
    "http://a.test../", "http://a b.test/", "http://a_b'.test/", "http://*/", f"http://{'a' * 64}.test/",
    f"http://{'a.' * 130}test/", "http:///", "http://", "//a.test/", "a.test", "", "http://a.test:0/",
    "http://a.test:65536/", "http://a\ttest/",
    # User information, with which a.test looks like the host, and other schemes.
    "http://a.test@127.0.0.1/", "http://a.test:x@127.0.0.1/", "http://user@a.test/", "http://a.test\\@127.0.0.1/",
    "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://a.test/", "unix:/run/x.sock", "javascript:alert(1)",
]  # fmt: skip
PUBLIC_URLS = [
    "https://example.com/", "http://example.com:8443/x?y#z", "https://EXAMPLE.com./", "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/", "https://bücher.example/", "https://xn--bcher-kva.example/",
    "https://a-b.example_c.com/", "https://1.example.com/", "https://localhost.example.com/", "https://10.example/",
    "https://internal.example.com/", "https://mylocal/",
]  # fmt: skip


class TestIsPublic:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_takes(self, address: str) -> None:
        assert is_public(ip_address(address))

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_does_not_take(self, address: str) -> None:
        assert not is_public(ip_address(address))

    def test_is_never_laxer_than_python(self) -> None:
        # Every so many of IPv4, and the first of each /16 of IPv6.
        addresses: list[IPv4Address | IPv6Address] = [IPv4Address(number) for number in range(0, 2**32, 131_071)]
        addresses += [IPv6Address((first << 112) + 1) for first in range(2**16)]

        assert [each for each in addresses if is_public(each) and not each.is_global] == []


class TestGuard:
    @pytest.mark.parametrize("url", REFUSED_URLS)
    def test_refuses(self, url: str) -> None:
        with pytest.raises(AddressRefused):
            Guard().check_url(url)

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_refuses_every_special_address_as_a_url(self, address: str) -> None:
        with pytest.raises(AddressRefused):
            Guard().check_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")

    @pytest.mark.parametrize("url", PUBLIC_URLS)
    def test_takes(self, url: str) -> None:
        Guard().check_url(url)

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_refuses_a_name_of_which_one_address_is_special(self, address: str) -> None:
        with pytest.raises(AddressRefused) as refused:
            Guard().check_addresses("a.test", ["8.8.8.8", address, "8.8.4.4"])

        assert address not in str(refused.value)

    @pytest.mark.parametrize("address", ["", "a.test", "127.1", "fe80::1%eth0"])
    def test_refuses_what_is_no_address(self, address: str) -> None:
        with pytest.raises(AddressRefused):
            Guard().check_addresses("a.test", [address])

    @pytest.mark.parametrize("url", REFUSED_URLS)
    def test_lets_no_client_connect(self, server: Server, url: str) -> None:
        # Where the URL has no port it gets that of the server, so that what is loopback would reach it.
        url = re.sub(r"\Ahttp://(\[.*\]|[^/:@\[\]]+)/\Z", rf"http://\1:{server.port}/", url)
        with APIClient(guard=Guard()) as api, pytest.raises((AddressRefused, InvalidRequest)):
            api.get(url)

        assert server.connections == 0


class TestAllowedHosts:
    @pytest.mark.parametrize(
        ("allowed", "url"),
        [
            ("localhost", "http://localhost:8000/"),
            ("LocalHost.", "http://LOCALHOST/"),
            ("hooks.internal", "http://hooks.internal/"),
            ("127.0.0.1", "http://127.0.0.1/"),
            ("10.1.0.0/16", "http://10.1.2.3/"),
            ("::1", "http://[::1]/"),
            ("fd00::/8", "http://[fd12::1]/"),
        ],
    )
    def test_are_taken(self, allowed: str, url: str) -> None:
        Guard(allowed_hosts=[allowed]).check_url(url)

    @pytest.mark.parametrize(
        ("allowed", "url"),
        [
            ("localhost", "http://a.localhost/"),
            ("localhost", "http://127.0.0.1/"),
            ("hooks.internal", "http://a.hooks.internal/"),
            ("127.0.0.1", "http://127.0.0.2/"),
            ("127.0.0.1", "http://127.1/"),
            ("127.0.0.0/8", "http://2130706433/"),
            ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/"),
            ("10.1.0.0/16", "http://10.2.0.0/"),
        ],
    )
    def test_are_taken_exactly(self, allowed: str, url: str) -> None:
        with pytest.raises(AddressRefused):
            Guard(allowed_hosts=[allowed]).check_url(url)

    def test_may_resolve_to_anything_by_name_and_only_within_a_network(self) -> None:
        guard = Guard(allowed_hosts=["hooks.internal", "10.0.0.0/8"])

        guard.check_addresses("hooks.internal", ["192.168.0.1"])
        guard.check_addresses("a.test", ["10.0.0.1", "8.8.8.8"])
        with pytest.raises(AddressRefused):
            guard.check_addresses("a.test", ["10.0.0.1", "192.168.0.1"])

    @pytest.mark.parametrize("entry", ["*", "*.internal", "http://localhost", "localhost:80", "10.0.0.1/8", "", "a b"])
    def test_must_be_hosts(self, entry: str) -> None:
        with pytest.raises(ValueError, match="must be host names, IP addresses or networks"):
            Guard(allowed_hosts=[entry])

    def test_let_a_client_connect(self, server: Server) -> None:
        with APIClient(server.url, guard=Guard(allowed_hosts=["127.0.0.1"])) as api:
            assert api.get("/ok").is_success


def test_the_systems_resolver_reads_what_the_guard_refuses() -> None:
    """Why spellings matter: these are one address here."""
    spellings = ["2130706433", "0x7f.1", "017700000001", "127.1"]
    found = {socket.getaddrinfo(each, 80, type=socket.SOCK_STREAM)[0][4][0] for each in spellings}

    assert found == {"127.0.0.1"}
    for each in spellings:
        with pytest.raises(OutboundError):
            Guard().check_host(each)
