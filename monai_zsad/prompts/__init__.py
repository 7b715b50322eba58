"""Prompts for normal and abnormal: the data, and the code that combines them to sentences."""

from monai_zsad.prompts.concepts import Concept, concepts
from monai_zsad.prompts.definition import FINDINGS, set_names
from monai_zsad.prompts.ensemble import PromptEnsemble
from monai_zsad.prompts.learned import CONTEXT_TOKENS, learned_prompt_texts
from monai_zsad.prompts.library import Anatomy, Modality, State, anatomies, modalities, states

__all__ = [
    "CONTEXT_TOKENS",
    "FINDINGS",
    "Anatomy",
    "Concept",
    "Modality",
    "PromptEnsemble",
    "State",
    "anatomies",
    "concepts",
    "learned_prompt_texts",
    "modalities",
    "set_names",
    "states",
]
