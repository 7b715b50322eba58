from __future__ import annotations

import pytest
import torch

from monai_zsad.data import explain, find_user_error
from monai_zsad.errors import InputError


def chained(inner: Exception, *, cause: bool) -> Exception:
    try:
        try:
            raise inner
        except type(inner) as error:
            if cause:
                raise RuntimeError("outer\nwith lines") from error
            raise RuntimeError("outer\nwith lines")  # noqa: B904 - the implicit context is the case here
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("cause", [True, False])
def test_user_error_is_found_behind_others(cause):
    inner = InputError("a.nii:  is\n damaged")
    assert find_user_error(chained(inner, cause=cause)) is inner
    assert explain(chained(inner, cause=cause)) == "a.nii: is damaged"


def test_other_errors_are_named_by_their_root():
    assert find_user_error(chained(KeyError("x"), cause=True)) is None
    assert explain(chained(KeyError("x"), cause=True)) == "KeyError: 'x'"
    assert explain(ValueError()) == "ValueError"


def test_lack_of_memory_has_a_remedy():
    assert "smaller batch" in explain(chained(torch.OutOfMemoryError("CUDA out of memory. Tried"), cause=True))


def test_a_chain_that_turns_on_itself_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert explain(first) == "ValueError: b"
