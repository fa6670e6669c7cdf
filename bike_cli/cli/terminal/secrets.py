"""Keep passwords and tokens out of logs and reports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

MASK = "***"

_TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SHORTEST = 4  # characters of a password that is searched for; shorter ones occur in ordinary words

_USER_IN_URL = re.compile(r"(?<=://)[^\s/?#]*@")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_SECRET_PARAMETER = re.compile(
    r"(?i)\b((?:x-amz-|x-goog-)?(?:signature|credential|security-token)|token|access_token|key-pair-id|policy|"
    r"password|api[-_]?key)=[^&\s\"']+"
)


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `text` without the passwords of URLs, without tokens, and without what the environment keeps secret."""
    for secret in _secrets(environment):
        text = text.replace(secret, MASK)
    text = _USER_IN_URL.sub(f"{MASK}@", text)
    text = _TOKEN.sub(MASK, text)
    return _SECRET_PARAMETER.sub(lambda match: f"{match[1]}={MASK}", text)


def mask_address(address: str) -> str:
    """Return the value of a proxy or server variable without user, password and query.

    Unlike in running text, everything before the last @ is hidden: a password that was not encoded may contain a slash.
    """
    scheme, separator, rest = address.partition("://") if "://" in address else ("", "", address)
    _, at, host = rest.rpartition("@")
    host = re.sub(r"[?#].*", f"?{MASK}", host, flags=re.DOTALL)
    return f"{scheme}{separator}{MASK + at if at else ''}{host}"


def is_token(name: str) -> bool:
    """Return whether the value of the environment variable `name` must not be shown at all."""
    return name.upper() in _TOKEN_NAMES or re.search(r"(?i)(TOKEN|PASSWORD|SECRET|API_?KEY)$", name) is not None


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the secret values of the environment, the longest parts of each first."""
    for name, value in environment.items():
        if name.upper() in _TOKEN_NAMES and len(value) >= _SHORTEST:
            yield value
        if name.upper() in _PROXY_NAMES and "@" in value:
            user = value.partition("://")[2].rpartition("@")[0] or value.rpartition("@")[0]
            password = user.partition(":")[2]
            yield from (text for text in (user, password, unquote(password)) if len(text) >= _SHORTEST)
