"""One root seed, and named independent streams derived from it.

What a comparison shares (initialisation, data order, dropout masks) never depends on the order or the company in which
configurations are trained, because every stream is named by what it is for.
"""

from __future__ import annotations

import hashlib


def derive_seed(root_seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for the stream named by ``path``; the same on every machine and in every version."""
    text = "/".join([str(root_seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
