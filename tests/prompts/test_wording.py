"""Places and articles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.prompts.wording import fill, indefinite_article, places

AN = "MRI scan|MR image|X-ray|x-ray|OCT scan|ADC map|SWI|NCCT|abnormal brain|unremarkable lung|unenhanced CT"
AN += "|ultrasound scan|abdomen|enhancing lesion|8 mm nodule|11 mm nodule|infarct|umbilicus|unidentified mass"
AN += "|hour-old film|H&E slide|uninjured knee|unimaged organ|urgent scan|oncologist"
A = "FLAIR image|STIR image|CT scan|T1-weighted image|DWI scan|US scan|PET scan|uterus|ureter|unilateral lesion"
A += "|European set|usual finding|urogram|one-sided mass|hyperintense lesion|100 mm mass|jpeg|mammogram"
A += "|normal-appearing brain|union|'quoted'"


@pytest.mark.parametrize("phrase", AN.split("|"))
def test_an(phrase: str):
    assert indefinite_article(phrase) == "an"


@pytest.mark.parametrize("phrase", A.split("|"))
def test_a(phrase: str):
    assert indefinite_article(phrase) == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {image} of a {}", "an MRI scan of an abnormal brain"),
        ("an {image} of an {}", "an MRI scan of an abnormal brain"),
        ("A {image} of the {}.", "An MRI scan of the abnormal brain."),
        ("a cropped {image} of {}", "a cropped MRI scan of abnormal brain"),
        ("a  {}", "an  abnormal brain"),
        ("pizza {}", "pizza abnormal brain"),
        ("{}{other}", "abnormal brain{other}"),
    ],
)
def test_fill(text: str, expected: str):
    assert fill(text, {"": "abnormal brain", "image": "MRI scan"}) == expected


@pytest.mark.parametrize("text", ["a {}", "an {}", "A  {}", "of a\t{} here"])
def test_articles_stay_as_written(text: str):
    assert fill(text, {"": "abnormal brain"}, adapt_articles=False) == text.replace("{}", "abnormal brain")


@given(st.text("aAn tT-{}x. ", max_size=30), st.text("abeMRI x", min_size=1, max_size=8))
def test_without_articles_fill_is_a_replacement(text: str, word: str):
    assert fill(text, {"": word}, adapt_articles=False) == text.replace("{}", word)


@given(st.lists(st.sampled_from(["a ", "the ", "{}", "{image}", "{x}", " of ", "an "]), max_size=8).map("".join))
def test_only_articles_change_beside_the_places(text: str):
    words = dict.fromkeys(places(text), "8 T image")
    filled, plain = fill(text, words), fill(text, words, adapt_articles=False)
    assert places(filled) == ()
    assert filled.replace("an ", "a ").replace("an ", "a ") == plain.replace("an ", "a ")
