"""Which proxy leads to the API server, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The proxy's URL; empty for none. Machines of this very host are never reached through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return ""
    if any(
        _covers(word.strip().lower(), host, parts.port) for word in _said(environment, "no_proxy").split(",")
    ):
        return ""
    return _said(environment, f"{parts.scheme}_proxy")


def _said(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _covers(word: str, host: str, port: int | None) -> bool:
    """Whether a word of NO_PROXY means this host: `*`, a network, an address, a domain with all below it, each with a port or without."""
    if word == "*":
        return True
    if not word:
        return False
    address = _address(host)
    try:
        if address is not None:
            return address in ipaddress.ip_network(word, strict=False)
    except ValueError:
        pass
    name, _, digits = word.rpartition(":")
    if name and digits.isdigit():
        if int(digits) != port:
            return False
        word = name
    domain = word.removeprefix("*").removeprefix(".")
    below = address is None and host.endswith(f".{domain}")
    return below or (host == domain and not word.startswith((".", "*")))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
