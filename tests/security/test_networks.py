"""Networks of addresses: whose requests and failures are counted together."""

import pytest

from app.security.networks import MAX_LENGTH, client_of, network_of


@pytest.mark.parametrize(
    ("address", "network", "client"),
    [
        ("192.0.2.7", "192.0.2.0/24", "192.0.2.7"),
        ("192.0.2.255", "192.0.2.0/24", "192.0.2.255"),
        ("192.0.3.7", "192.0.3.0/24", "192.0.3.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64", "2001:db8:1:3::/64"),
        ("::1", "::/64", "::/64"),
    ],
)
def test_are_a_24_of_ipv4_and_a_64_of_ipv6(address: str, network: str, client: str) -> None:
    assert (network_of(address), client_of(address)) == (network, client)


@pytest.mark.parametrize("address", ["::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7"])
def test_of_mapped_addresses_are_those_of_ipv4(address: str) -> None:
    assert (network_of(address), client_of(address)) == ("192.0.2.0/24", "192.0.2.7")


def test_have_no_zone() -> None:
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth1") == "fe80::/64"


@pytest.mark.parametrize("text", ["", "unknown", "192.0.2.7:5123", "192.0.2", "192.0.2.007"])
def test_of_what_is_no_address_are_the_text_itself(text: str) -> None:
    assert network_of(text) == client_of(text) == text


def test_are_short() -> None:
    longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

    assert max(len(network_of(text)) for text in (longest, longest + "%" + "x" * 99, "y" * 99)) <= MAX_LENGTH
