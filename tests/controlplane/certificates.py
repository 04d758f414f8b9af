"""Keys and certificates of one test's control plane, made by openssl, valid for a week and of no use to anybody else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_DAYS: Final = "7"
_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "ca.crt"
        self._key = directory / "ca.key"
        _openssl(
            "req", "-x509", "-new", *_CURVE, "-keyout", self._key, "-out", self.certificate, "-days", _DAYS,
            "-subj", "/CN=gpumax-test-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def server(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """Certificate and key of a server that is reached under these addresses, IPs or names."""
        names = ",".join(f"{'IP' if address[0].isdigit() else 'DNS'}:{address}" for address in addresses)
        return self._signed(name, f"/CN={name}", f"subjectAltName={names}", "extendedKeyUsage=serverAuth")

    def client(self, user: str, *groups: str) -> tuple[Path, Path]:
        """Certificate and key of a user in these groups, as Kubernetes reads them."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        name = "+".join((user, *groups)).replace(":", "-")
        return self._signed(name, subject, "extendedKeyUsage=clientAuth")

    def signing_pair(self, name: str) -> tuple[Path, Path]:
        """A bare key pair: public and private part."""
        public, private = self.directory / f"{name}.pub", self.directory / f"{name}.key"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        _openssl("ec", "-in", private, "-pubout", "-out", public)
        return public, private

    def _signed(self, name: str, subject: str, *extensions: str) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        more = [word for extension in extensions for word in ("-addext", extension)]
        _openssl(
            "req", "-x509", "-new", *_CURVE, "-keyout", key, "-out", certificate, "-days", _DAYS, "-subj", subject,
            "-CA", self.certificate, "-CAkey", self._key, "-addext", "basicConstraints=critical,CA:FALSE", *more,
        )  # fmt: skip
        return certificate, key


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {words[0]}: {done.stderr}"
