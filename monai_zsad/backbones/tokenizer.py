"""CLIP's tokenizer, also for counting the tokens of prompts without building a network."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

__all__ = ["CONTEXT_LENGTH", "count_tokens", "tokenizer"]

#: Token positions of the text towers of OpenAI's and LAION's ViTs, start and end of text included.
CONTEXT_LENGTH = 77


@functools.cache
def tokenizer() -> SimpleTokenizer:
    """CLIP's tokenizer. It is kept, because reading its vocabulary takes a third of a second."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Number of tokens of ``text`` in CLIP's vocabulary, start and end of text included.

    >>> count_tokens("a CT scan")
    5
    """
    return len(tokenizer().encode(text)) + 2
