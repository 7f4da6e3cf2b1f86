"""The verification of webhook signatures (public as `ensue.hooks`): one row of data for each signature scheme.

Rules: the raw body is verified, before anything parses it. Signatures are compared in constant time. A secret is named
by its environment variable and never written in code; the variables are read once, at the start, and a missing or
empty one stops the start. All secrets of an endpoint are active, so a secret can be replaced without a gap. Missing,
repeated, non-ASCII or malformed headers, and wrong or expired signatures all raise `SignatureInvalid` after the same
work. There is no default secret, and no "verify if a secret is set". If the signature does not cover the sender's id,
`id_is_signed` is false, and the id alone identifies nothing.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest, digest
from typing import NamedTuple

from ...events.errors import PipelineInvalid, SecretMissing, SignatureInvalid
from ...events.model.webhook import Verifier
from ..settings import DEFAULT_BODY_LIMIT_BYTES

__all__ = ["REPLAY_WINDOW_SECONDS", "GitHub", "Insecure", "StandardWebhooks"]

GITHUB_BODY_LIMIT_BYTES = 25 * 1000 * 1000
REPLAY_WINDOW_SECONDS = 300

Headers = Mapping[str, list[str]]
_LONGEST_TIMESTAMP = 12
_REFUSED = "The signature is missing or invalid."


class Claim(NamedTuple):
    """What the headers of a delivery claim, before it is verified."""

    signatures: tuple[bytes, ...] = ()
    """The signatures, of which one must match."""
    prefix: bytes = b""
    """The bytes that are signed in front of the body."""
    sender_id: str | None = None
    timestamp: str | None = None
    """The time of the signature, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signature scheme: how to read its headers and its secret, and how it encodes a MAC."""

    name: str
    read: Callable[[Headers], Claim | None]
    encode: Callable[[bytes], bytes]
    key: Callable[[str], bytes]
    id_is_signed: bool
    is_timed: bool
    body_limit_bytes: int = DEFAULT_BODY_LIMIT_BYTES


class _Signed:
    """A verifier: a scheme and the environment variables of its secrets."""

    def __init__(self, scheme: Scheme, secret_env: str | Sequence[str]) -> None:
        self._scheme = scheme
        self._names = (secret_env,) if isinstance(secret_env, str) else tuple(secret_env)
        self._keys: tuple[bytes, ...] = ()
        if not self._names or not all(self._names):
            raise SecretMissing(
                f"hooks.{type(self).__name__}(secret_env=...) names no environment variable: pass the name of one."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret_env={list(self._names)!r})"

    @property
    def scheme(self) -> str:
        return self._scheme.name

    @property
    def body_limit_bytes(self) -> int:
        return self._scheme.body_limit_bytes

    @property
    def id_is_signed(self) -> bool:
        return self._scheme.id_is_signed

    def load(self, environment: Mapping[str, str]) -> None:
        """Read the secrets. Raises `SecretMissing` if one is missing or does not have the form of the scheme."""
        self._keys = tuple(self._key(name, environment.get(name, "")) for name in self._names)

    def verify(self, headers: Headers, body: bytes, now_seconds: float) -> str | None:
        if not self._keys:
            self.load(os.environ)
        scheme = self._scheme
        claim = scheme.read(headers)
        genuine = _matches(scheme, self._keys, claim or Claim(), body)
        if claim is None or not genuine or (scheme.is_timed and not _is_fresh(claim.timestamp, now_seconds)):
            raise SignatureInvalid(_REFUSED)
        return claim.sender_id

    def _key(self, name: str, secret: str) -> bytes:
        if not secret.strip():
            msg = f"The environment variable {name} is not set or empty, and a webhook ({self.scheme}) needs its secret"
            raise SecretMissing(f"{msg}: set the variable and start again.")
        if not secret.isprintable() or secret != secret.strip() or _is_quoted(secret):
            msg = f"The environment variable {name} has a line break, white space around it or quotes around it"
            raise SecretMissing(f"{msg}: set it to the secret alone, and start again.")
        try:
            key = self._scheme.key(secret)
        except ValueError:
            key = b""
        if not key:
            msg = f"The environment variable {name} is not a secret of the scheme {self.scheme}"
            raise SecretMissing(
                f"{msg}: copy the secret as the sender shows it (Standard Webhooks: whsec_ and base64)."
            )
        return key


class GitHub(_Signed):
    """The scheme of GitHub: HMAC-SHA256 of the body, in `X-Hub-Signature-256`. The delivery id is not signed."""

    def __init__(self, *, secret_env: str | Sequence[str]) -> None:
        super().__init__(_GITHUB, secret_env)


class StandardWebhooks(_Signed):
    """The scheme of Standard Webhooks: HMAC-SHA256 of id, time and body. `headers="svix"` is for Svix's older names.

    With `id_is_enough` the same id is the same delivery whatever its body, for senders that change it at each try.
    """

    def __init__(
        self, *, secret_env: str | Sequence[str], headers: str = "webhook", id_is_enough: bool = False
    ) -> None:
        super().__init__(_standard(headers), secret_env)
        self.id_is_enough = id_is_enough


class Insecure:
    """No verification: every request is accepted. Allowed on loopback only, unless `force` is true."""

    scheme = "insecure"
    body_limit_bytes = DEFAULT_BODY_LIMIT_BYTES
    id_is_signed = False

    def __init__(self, *, force: bool = False) -> None:
        self.force = force

    def __repr__(self) -> str:
        return f"Insecure(force={self.force})"

    def verify(self, headers: Headers, body: bytes, now_seconds: float) -> str | None:  # noqa: ARG002 - the parameters of the Protocol
        """Accept every delivery."""
        return None


def load_secrets(verifiers: Sequence[Verifier], environment: Mapping[str, str]) -> None:
    """Read all secrets. Raises `SecretMissing` for the first that is missing."""
    for verifier in verifiers:
        if isinstance(verifier, _Signed):
            verifier.load(environment)


def id_is_signed(verifier: Verifier) -> bool:
    """Whether the signature covers the id that the verifier returns; false if the verifier does not say so."""
    return bool(getattr(verifier, "id_is_signed", False))


def id_is_enough(verifier: Verifier) -> bool:
    """Whether the id alone identifies a delivery, whatever its body; only an id that is signed can."""
    return id_is_signed(verifier) and bool(getattr(verifier, "id_is_enough", False))


def _matches(scheme: Scheme, keys: tuple[bytes, ...], claim: Claim, body: bytes) -> bool:
    """Whether a signature matches a secret. All pairs are compared; a MAC is computed even without a signature."""
    is_match = False
    signed = claim.prefix + body if claim.prefix else body
    for key in keys:
        expected = scheme.encode(digest(key, signed, "sha256"))
        for signature in claim.signatures:
            is_match |= compare_digest(expected, signature)
    return is_match


def _is_fresh(timestamp: str | None, now_seconds: float) -> bool:
    if timestamp is None or not timestamp.isdigit() or len(timestamp) > _LONGEST_TIMESTAMP:
        return False
    return abs(now_seconds - int(timestamp)) <= REPLAY_WINDOW_SECONDS


def _single(headers: Headers, name: str) -> str | None:
    """The value of a header, or None if it is missing, repeated or not ASCII."""
    values = headers.get(name)
    if values is None or len(values) != 1 or not values[0].isascii():
        return None
    return values[0]


def _is_quoted(secret: str) -> bool:
    return len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "'\"`"


def _hex(mac: bytes) -> bytes:
    return mac.hex().encode()


def _read_github(headers: Headers) -> Claim | None:
    signature = _single(headers, "x-hub-signature-256")
    if signature is None or not signature.startswith("sha256="):
        return None
    sender_id = _single(headers, "x-github-delivery")
    if sender_id is None and "x-github-delivery" in headers:
        return None
    return Claim((signature[7:].encode(),), sender_id=sender_id)


def _read_standard(prefix: str) -> Callable[[Headers], Claim | None]:
    prefix = prefix.strip().rstrip("-").lower()
    if not prefix.replace("-", "").isalnum() or not prefix.isascii():
        raise PipelineInvalid(f"StandardWebhooks(headers={prefix!r}): write the start of the headers' names: 'webhook'")
    id_name, time_name, signature_name = f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature"

    def read(headers: Headers) -> Claim | None:
        sender_id, timestamp = _single(headers, id_name), _single(headers, time_name)
        listed = _single(headers, signature_name)
        if not sender_id or not timestamp or not listed:
            return None
        signatures = tuple(part[3:].encode() for part in listed.split(" ") if part.startswith("v1,"))
        return Claim(signatures, f"{sender_id}.{timestamp}.".encode(), sender_id, timestamp)

    return read


def _standard_key(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_"), validate=True)


def _standard(prefix: str) -> Scheme:
    return Scheme(
        "standard-webhooks", _read_standard(prefix), b64encode, _standard_key, id_is_signed=True, is_timed=True
    )


_GITHUB = Scheme(
    "github",
    _read_github,
    _hex,
    str.encode,
    id_is_signed=False,
    is_timed=False,
    body_limit_bytes=GITHUB_BODY_LIMIT_BYTES,
)
