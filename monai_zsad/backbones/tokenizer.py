"""CLIP's tokenizer, for counting the tokens of prompts without building a network."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

__all__ = ["CONTEXT_LENGTH", "count_tokens"]

#: Token positions of the text towers of OpenAI's and LAION's ViTs, start and end of text included.
CONTEXT_LENGTH = 77


@functools.cache
def _tokenizer() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Number of tokens of ``text`` in CLIP's vocabulary, start and end of text included.

    >>> count_tokens("a CT scan")
    5
    """
    return len(_tokenizer().encode(text)) + 2
