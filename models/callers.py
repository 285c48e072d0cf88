"""Whose requests are counted together."""

from __future__ import annotations

import ipaddress


def one_caller(address: str) -> str:
    """An IPv4 address, or the /64 that one customer of an IPv6 provider has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if ip.version == 4:
        return address
    if ip.ipv4_mapped is not None:  # an IPv6 socket writes every IPv4 address so: the /64 would hold them all
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
