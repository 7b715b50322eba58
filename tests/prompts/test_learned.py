"""Texts of learned prompts."""

from __future__ import annotations

from monai_zsad.prompts import CONTEXT_TOKENS, learned_prompt_texts


def test_every_learned_vector_has_a_placeholder():
    normal, abnormal = learned_prompt_texts()
    assert normal.split()[:-1] == ["X"] * CONTEXT_TOKENS
    assert abnormal.split()[CONTEXT_TOKENS:] == ["damaged", "object."]
