"""Takes names and passwords out of what leaves us: files, prints, logs and errors."""

from __future__ import annotations

import re

# What stands before the last @ between "scheme://" and the first slash, and parameters that hold a name or a secret.
_BEFORE_HOST = re.compile(r"(?<=://)[^/?#\s'\"<>]*@")
_PARAMETER = re.compile(
    r"(?i)(?<=[?&])((?:ssl)?(?:user(?:name)?|uid|login|pass(?:word|wd|phrase)?|pwd|(?:[a-z_]*_)?(?:token|secret|key)|sig(?:nature)?)"
    r"=)[^&#\s'\"<>]*"
)


def without_credentials(text: str) -> str:
    """A text with no name and no password in any address: "http://ann:secret@host/" becomes "http://host/"."""
    return _PARAMETER.sub(r"\1", _BEFORE_HOST.sub("", text))


def remove_credentials(error: BaseException) -> None:
    """Takes them out of what an error says, and those that led to it."""
    links, seen = [error], {id(error)}
    while links:
        link = links.pop()
        said = without_credentials(str(link))
        if said != str(link):
            link.args = (said,)
            if hasattr(link, "message"):
                link.message = said
        for name in ("__cause__", "__context__"):
            earlier = getattr(link, name)
            if earlier is not None and id(earlier) not in seen:
                seen.add(id(earlier))
                links.append(earlier)
