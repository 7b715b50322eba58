"""Case ids: unique in a run, and safe as file names."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["hashed_id", "safe_id", "unique_ids"]

_LONGEST_ID = 100


def safe_id(text: str) -> str:
    """Text as a file name of at most 100 characters: letters, digits, ``_``, ``.`` and ``-``.

    Example:
        >>> safe_id("../Müller, A (1)")
        'Müller-A-1'
    """
    cleaned = re.sub(r"[^\w.-]+", "-", text).strip(".-_ ")
    return cleaned[-_LONGEST_ID:].lstrip(".-_ ") or "scan"


def hashed_id(identity: str, salt: str) -> str:
    """Id from which the identity cannot be found without the salt: 64 bits of an HMAC with SHA-256.

    Args:
        identity: identifies the scan, for example its SeriesInstanceUID.
        salt: secret of the run.

    Example:
        >>> hashed_id("1.2.840.1", "pepper")
        'case-44132c73d77a647d'
    """
    return f"case-{hmac.new(salt.encode(), identity.encode(), 'sha256').hexdigest()[:16]}"


def unique_ids(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Shortest distinct end of every path, joined by ``_``; equal paths get a running number.

    Example:
        >>> unique_ids([("anna", "flair"), ("ben", "flair"), ("t1",)])
        ['anna_flair', 'ben_flair', 't1']
    """
    depth = [1] * len(paths)
    while True:
        ids = [safe_id("_".join(parts[-count:])) for parts, count in zip(paths, depth, strict=True)]
        # Compared without case, because some file systems do not distinguish "A" and "a".
        counts = Counter(name.casefold() for name in ids)
        clashing = [i for i, name in enumerate(ids) if counts[name.casefold()] > 1 and depth[i] < len(paths[i])]
        if not clashing:
            break
        for i in clashing:
            depth[i] += 1
    taken: set[str] = set()
    unique = []
    for name in ids:
        candidate, number = name, 2
        while candidate.casefold() in taken or (candidate != name and candidate.casefold() in counts):
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
