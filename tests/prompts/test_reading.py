"""Reading prompt data: what is wrong is named, with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts.reading import as_flag, as_text, as_texts, check_keys, check_places, read_yaml


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"normal: [a]\nnormal: [b]\n", "the key 'normal' occurs twice"),
        (b"normal: [a\n", "is not valid YAML"),
        (b"- a\n", "holds a list of 1: give keys"),
        (b"", "holds empty: give keys"),
        (b"normal: [\xff]\n", "is not UTF-8 text"),
        (b"normal: !!python/object:os.system [x]\n", "is not valid YAML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abnormal {}", "my: normal is 'abnormal {}' (str): give a list of texts"),
        (None, "my: normal is empty: give a list"),
        ([], "my: normal is an empty list"),
        (["ok", None], "my: normal[1] is empty, not a text: give a text"),
        (["ok", False], "my: normal[1] is False (bool), not a text: put it in quotes"),
        ([3], "my: normal[0] is 3 (int), not a text: put it in quotes"),
        ([{"finding": "mass"}], "my: normal[0] is a mapping ('finding': 'mass'), not a text: put it in quotes"),
        ([" "], "my: normal[0] is empty: give a text"),
    ],
)
def test_lists_that_are_none(value: object, message: str):
    with pytest.raises(ConfigurationError) as caught:
        as_texts(value, "my: normal")
    assert str(caught.value).startswith(message)


def test_values_that_are_fine():
    assert as_texts((" a ", "b"), "x") == ("a", "b")
    assert as_texts([], "x", empty=True) == ()
    assert as_text("a\n", "x") == "a"
    assert as_flag(False, "x") is False
    with pytest.raises(ConfigurationError, match=r"x is 'yes' \(str\): give true or false"):
        as_flag("yes", "x")


def test_unknown_keys_get_a_hint():
    with pytest.raises(ConfigurationError, match="my: unknown key 'tempaltes'; did you mean templates"):
        check_keys({"tempaltes": []}, ("normal", "templates"), "my")
    with pytest.raises(ConfigurationError, match="unknown key True"):
        check_keys({True: []}, ("normal",), "my")


@pytest.mark.parametrize(
    ("text", "subject", "message"),
    [
        ("a brain", 1, "'a brain' has no placeholder {}, but needs exactly one for it"),
        ("a {} and a {}", 1, "has 2 placeholders {}, but needs exactly one for it"),
        ("a {} and a {}", None, "has 2 placeholders {}, but needs at most one"),
        ("a {}", 0, "has 1 placeholder {}, but needs none for it"),
        ("a {organ}", None, "has an unknown placeholder {organ}: known here are {}, {image}"),
        ("a {", None, "has a brace without its partner"),
        ("a }{", None, "has a brace without its partner"),
        ("a {{}}", None, "has a brace without its partner"),
    ],
)
def test_places(text: str, subject: int | None, message: str):
    with pytest.raises(ConfigurationError) as caught:
        check_places(
            ["{} is fine" if subject != 0 else "fine", text], "my: x", ("image",), subject=subject, remedy=" for it"
        )
    assert str(caught.value).startswith("my: x: ")
    assert message in str(caught.value)
