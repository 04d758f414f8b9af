"""The webhook's own certificates, as data: what is kept now, and what should be kept instead.

    nothing ──> an authority, and a certificate signed by it
    the certificate has lived 2/3 of its life ──> a new one, signed by the same authority
    the authority has lived 2/3 of its life ──> it signs once more; a second one beside it signs nothing until the API server trusts both
    both are trusted for OVERLAP ──> a new certificate, signed by the second; the first goes another OVERLAP later

So at every moment each certificate that some replica still shows is signed by an authority that is trusted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 360
SERVING_DAYS: Final = 30
SKEW: Final = timedelta(minutes=10)
"""How far clocks may be apart: a certificate begins so long before it is made."""
OVERLAP: Final = timedelta(hours=1)
"""How long everybody has to hear of a new authority before it is used, and of its certificates before the old one goes."""

Key = ec.EllipticCurvePrivateKey


class Kept(NamedTuple):
    """All as PEM. authorities: whom the API server is to trust, the newest last; authority_key: of the newest."""

    authorities: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        """Keys are never shown."""
        return "Kept(...)"


class Unreadable(ValueError):
    """What is kept is no such thing; a person or a program wrote something else there."""


def advance(kept: Kept | None, trusted: bytes, names: Sequence[str], now: datetime) -> Kept:
    """What should be kept now: the very same where nothing is to change. trusted: whom the API server trusts; names: under which we are called."""
    if kept is None:
        authority, key = _new_authority(now)
        return _signed(authority, key, (authority,), names, now)
    authorities, key, certificate = _read(kept)
    newest = authorities[-1]
    if _lived(newest, now) >= 1:
        return advance(None, trusted, names, now)
    if _lived(newest, now) >= 2 / 3:
        # The last thing that the old one signs lasts until everybody knows the new one.
        last = _signed(newest, key, authorities, names, now)
        fresh, key = _new_authority(now)
        return last._replace(authorities=_pem(*authorities, fresh), authority_key=_key_pem(key))
    signer = _signer(certificate, authorities)
    believed = _all_trusted(authorities, trusted) and _age(newest, now) >= OVERLAP
    # The key of an authority goes when the next one comes: what it signed is renewed by that one, believed or not, before it ends.
    due = _lived(certificate, now) >= 2 / 3 or not _covers(certificate, names)
    if signer is None or due or (signer != newest and believed):
        return _signed(newest, key, authorities, names, now)
    if signer == newest and len(authorities) > 1 and _age(certificate, now) >= OVERLAP:
        return kept._replace(authorities=_pem(newest))
    return kept


def ends(certificate: bytes) -> datetime:
    """Until when a certificate is valid."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _read(kept: Kept) -> tuple[tuple[x509.Certificate, ...], Key, x509.Certificate]:
    try:
        authorities = tuple(x509.load_pem_x509_certificates(kept.authorities))
        key = serialization.load_pem_private_key(kept.authority_key, None)
        own = serialization.load_pem_private_key(kept.key, None)
        certificate = x509.load_pem_x509_certificate(kept.certificate)
    except (ValueError, TypeError) as error:
        raise Unreadable(str(error)) from None
    if not isinstance(key, Key) or key.public_key() != authorities[-1].public_key():
        raise Unreadable("the key is not that of the newest authority")
    if own.public_key() != certificate.public_key():
        raise Unreadable("the key is not that of the certificate")
    return authorities, key, certificate


def _new_authority(now: datetime) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"gpumax webhook authority of {now:%Y-%m-%d %H:%M}")]
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


def _signed(
    authority: x509.Certificate,
    authority_key: Key,
    authorities: Sequence[x509.Certificate],
    names: Sequence[str],
    now: datetime,
) -> Kept:
    """A new certificate, beside what is kept of the authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gpumax webhook")])
    made = (
        _builder(subject, authority.subject, key, now, SERVING_DAYS)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return Kept(_pem(*authorities), _key_pem(authority_key), _pem(made), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _covers(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    own = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return all(_name(name) in own for name in names)


def _signer(
    certificate: x509.Certificate, authorities: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Which of the authorities signed it."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return authority
    return None


def _all_trusted(authorities: Sequence[x509.Certificate], trusted: bytes) -> bool:
    try:
        known = x509.load_pem_x509_certificates(trusted)
    except ValueError:
        return False
    return all(authority in known for authority in authorities)


def _lived(certificate: x509.Certificate, now: datetime) -> float:
    """Which part of its life is over."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (now - begin) / (end - begin)


def _age(certificate: x509.Certificate, now: datetime) -> timedelta:
    return now - certificate.not_valid_before_utc - SKEW


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
