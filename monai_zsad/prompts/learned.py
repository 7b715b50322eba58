"""The texts around which Crane and AnomalyCLIP learn their context vectors."""

from __future__ import annotations

__all__ = ["CONTEXT_TOKENS", "learned_prompt_texts"]

CONTEXT_TOKENS = 12
_NORMAL, _ANOMALOUS = "object.", "damaged object."


def learned_prompt_texts(context_tokens: int = CONTEXT_TOKENS) -> tuple[str, str]:
    """The normal and the anomalous text, with a placeholder for every learned vector.

    Args:
        context_tokens: number of learned vectors in each text.

    Returns:
        The two texts.

    >>> learned_prompt_texts(2)
    ('X X object.', 'X X damaged object.')
    """
    placeholders = "X " * context_tokens
    return placeholders + _NORMAL, placeholders + _ANOMALOUS
