"""Placeholders in a text, and the article before them."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["fill", "indefinite_article", "places"]

_PLACE = re.compile(r"(?:\b(?P<article>[Aa])n?(?P<gap>\s+))?\{(?P<key>[^{}]*)\}")
# The names of these letters begin with a vowel sound: "an MRI", "an X-ray".
_VOWEL_LETTERS = frozenset("AEFHILMNORSX")
# Abbreviations that are spoken as a word.
_SPOKEN = frozenset({"FIESTA", "FLAIR", "FLASH", "LASER", "MIP", "RARE", "SPACE", "SPAIR", "SPECT", "STIR"})
_SILENT_H = ("hour", "heir", "honest", "honor", "honour")
# "a unit", "a uterus", "a European"; but "an unilluminated".
_CONSONANT_START = re.compile(r"eu|ew|one(?![a-z])|once|uni(?![mn]|dent|ll)|us[aeu]|ut[ei]|ur(?:e|i[cn]|o)|ubi|ufo")


def places(text: str) -> tuple[str, ...]:
    """The names of the placeholders in ``text``, in order; ``""`` for ``{}``.

    >>> places("a {image} of the {}")
    ('image', '')
    """
    return tuple(match["key"] for match in _PLACE.finditer(text))


def indefinite_article(phrase: str) -> str:
    """``"a"`` or ``"an"``, according to the first sound of ``phrase``.

    >>> [indefinite_article(word) for word in ("abnormal head", "MRI scan", "FLAIR image", "X-ray", "8 mm nodule")]
    ['an', 'an', 'a', 'an', 'an']
    """
    match = re.match(r"[A-Za-z]+|\d+", phrase.strip())
    word = match[0] if match else ""
    if word[:1].isdigit():
        vowel = word.startswith("8") or word in ("11", "18")
    elif len(word) == 1 or (word.isupper() and word not in _SPOKEN):
        vowel = word[0].upper() in _VOWEL_LETTERS
    else:
        small = word.lower()
        vowel = small.startswith(_SILENT_H) or (small[:1] in tuple("aeiou") and not _CONSONANT_START.match(small))
    return "an" if vowel else "a"


def fill(text: str, words: Mapping[str, str], *, adapt_articles: bool = True) -> str:
    """Insert ``words`` into the placeholders of ``text``. A placeholder without a word stays.

    Args:
        text: a text with placeholders ``{}`` or ``{name}``.
        words: word or phrase by placeholder; the key of ``{}`` is ``""``.
        adapt_articles: whether "a" or "an" directly before a placeholder is adapted to the inserted word.

    Example:
        >>> fill("a {image} of a {}", {"image": "MRI scan", "": "abnormal brain"})
        'an MRI scan of an abnormal brain'
        >>> fill("a photo of a {}", {"": "abnormal brain"}, adapt_articles=False)
        'a photo of a abnormal brain'
    """

    def put(match: re.Match[str]) -> str:
        if match["key"] not in words:
            return match[0]
        word = words[match["key"]]
        if match["article"] is None:
            return word
        if not adapt_articles:
            return match[0][: match.start("gap") - match.start()] + match["gap"] + word
        article = indefinite_article(word)
        return (article.capitalize() if match["article"] == "A" else article) + match["gap"] + word

    return _PLACE.sub(put, text)
