"""Text in, the same text without the credentials of the URLs in it out: for whatever is said, logged or saved."""

from __future__ import annotations

import re

HIDDEN = "***"
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/+")

# A token before the host, or user:password; the latter up to the last @, since cloud keys hold unescaped slashes.
# Where in doubt (a port, and an @ in the path) too much is hidden.
_USER = re.compile(r"(?<=://)(?:[^\s/?#@:'\"]*:[^\s'\"]*|[^\s/?#'\"]*)@")
# A query may be a signature as a whole (S3, Azure's SAS, Google's): none of it is shown.
_QUERY = re.compile(r"(://[^\s?'\"<>]*)\?[^\s'\"<>)]*")


def redacted(text: str) -> str:
    """`text` with user, password and token of every URL in it, and its query, replaced by ***."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def url_in(place: str) -> str | None:
    """What was meant as a URL, to be shown, where a path was expected; None for a path. Path has made one slash of two."""
    if (scheme := _URL.match(place)) is None:
        return None
    return redacted(scheme[0].rstrip("/") + "//" + place[scheme.end() :])
