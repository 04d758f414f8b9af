"""The webhook's certificates over the years: at every moment, whatever a replica shows is signed by somebody who is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from gpumax.apps.webhook.certificates import OVERLAP, Kept, Unreadable, advance, ends

NAMES = ("gpumax-webhook.gpumax-system.svc", "127.0.0.1")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def life(years: int, every: timedelta, heard_after: int = 0) -> Iterator[tuple[datetime, Kept, bytes]]:
    """Each look: when, what is kept then, and whom the API server trusts; it hears of that so many looks later."""
    kept: Kept | None = None
    heard: list[bytes] = []
    now = BEGIN
    while now < BEGIN + timedelta(days=365 * years):
        trusted = heard[-1 - heard_after] if len(heard) > heard_after else heard[0] if heard else b""
        kept = advance(kept, trusted, NAMES, now)
        heard.append(kept.authorities)
        yield now, kept, heard[max(0, len(heard) - 1 - heard_after)]
        now += every


def vouches(authorities: bytes, certificate: bytes, now: datetime) -> bool:
    """Whether one of the authorities, valid now, signed the certificate, which is valid now."""
    own = x509.load_pem_x509_certificate(certificate)
    if not own.not_valid_before_utc <= now <= own.not_valid_after_utc:
        return False
    for authority in x509.load_pem_x509_certificates(authorities):
        try:
            own.verify_directly_issued_by(authority)
        except (ValueError, InvalidSignature):
            continue
        return authority.not_valid_before_utc <= now <= authority.not_valid_after_utc
    return False


@pytest.mark.parametrize(
    "heard_after", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 3]
)
def test_what_is_shown_is_trusted_at_every_moment_of_three_years(heard_after: int) -> None:
    """Also what another replica shows that looked once less, and where the API server hears of authorities later."""
    before: Kept | None = None
    shown, authorities = set(), set()
    for now, kept, trusted in life(3, timedelta(hours=3), heard_after):
        assert vouches(trusted, kept.certificate, now), now
        assert before is None or vouches(trusted, before.certificate, now), now
        shown.add(kept.certificate)
        authorities.add(kept.authorities)
        assert kept.authorities.count(b"BEGIN") <= 2
        before = kept
    assert len(shown) >= 3 * 365 // 20
    assert (
        len(authorities) >= 8
    )  # one, two, one, and so on: an authority lives for eight months before the next comes


def test_nothing_changes_before_it_is_due() -> None:
    """The very same is kept for twenty days, however often one looks."""
    rows = [kept for now, kept, _ in life(1, timedelta(hours=6)) if now < BEGIN + timedelta(days=19)]
    assert len({id(kept) for kept in rows}) == 1


def test_a_new_authority_signs_nothing_before_the_server_trusts_it() -> None:
    """It waits beside the old one for as long as the API server doesn't have it."""
    first = advance(None, b"", NAMES, BEGIN)
    due = BEGIN + timedelta(days=241)
    both = advance(first, first.authorities, NAMES, due)
    assert both.authorities.startswith(first.authorities)
    assert vouches(first.authorities, both.certificate, due)
    assert advance(both, first.authorities, NAMES, due + 3 * OVERLAP) == both
    assert advance(both, both.authorities, NAMES, due + OVERLAP / 2) == both
    used = advance(both, both.authorities, NAMES, due + OVERLAP)
    assert used.certificate != both.certificate
    assert used.authorities == both.authorities
    alone = advance(used, used.authorities, NAMES, due + 2 * OVERLAP)
    assert alone.authorities.count(b"BEGIN") == 1
    assert vouches(alone.authorities, used.certificate, due + 2 * OVERLAP)


def test_a_name_that_is_new_gets_a_new_certificate_of_the_same_authority() -> None:
    """Nobody needs to be told."""
    kept = advance(None, b"", NAMES, BEGIN)
    wider = advance(kept, kept.authorities, (*NAMES, "other.example"), BEGIN)
    assert (wider.authorities, wider.authority_key) == (kept.authorities, kept.authority_key)
    assert wider.certificate != kept.certificate


@pytest.mark.parametrize("field", ["authorities", "authority_key", "certificate", "key"])
@pytest.mark.parametrize(
    "text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_somebody_else_wrote_there_is_not_used(field: str, text: bytes) -> None:
    """Nor keys that belong to other certificates."""
    kept, other = advance(None, b"", NAMES, BEGIN), advance(None, b"", NAMES, BEGIN)
    for wrong in (text, getattr(other, field)):
        with pytest.raises(Unreadable):
            advance(kept._replace(**{field: wrong}), b"", NAMES, BEGIN)


def test_keys_are_never_shown() -> None:
    """Not by accident, in a log or a traceback."""
    kept = advance(None, b"", NAMES, BEGIN)
    assert "KEY" not in f"{kept!r} {kept}"
    assert ends(kept.certificate) == BEGIN + timedelta(days=30)
