"""Entity tags: what one content is told apart from another one by, and whether the asker of a page or an API has it.

Owns the form of a tag and the comparison of `If-None-Match`. Knows neither requests nor what is answered.

Source: RFC 9110, 8.8.3 and 13.1.2.
"""

import hashlib
import re
from collections.abc import Iterable

# A tag may have commas in it: a list is not split at them.
_LISTED = re.compile(r'(?:^|,)[ \t]*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)')


def tag_of(content: bytes) -> str:
    """Return the tag of a content, a digest of it."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def is_known(tag: str, if_none_match: Iterable[str]) -> bool:
    """Return whether one of the header's lines lists the tag, weak or strong, or is `*`, which any tag is known by.

    What is no list of tags lists none: then the content is sent.
    """
    wanted = tag.removeprefix("W/")
    return any(line.strip(" \t") == "*" or wanted in _LISTED.findall(line) for line in if_none_match)
