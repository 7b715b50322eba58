"""Texts of a header in an unknown or wrong character set: results hold what can be decoded, with one warning."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monai_zsad.writers import SaveDicomd
from monai_zsad.writers.dicom import KINDS
from tests.writers.dicom.results import MODEL, Case, dciodvfy_errors, make_case, read, series

# Stated character set, bytes of the name in the file, the name in the results, whether that is certain.
NAMES: dict[str, tuple[Any, bytes, str, bool]] = {
    "unknown term": ("GARBAGE", b"D\xf6e^Jane", "D?e^Jane", False),
    "unknown term, ASCII": ("GARBAGE", b"Doe^Jane", "Doe^Jane", True),
    "unknown term, UTF-8": ("GARBAGE", "Dö^Jane".encode(), "Dö^Jane", False),
    "unknown extension": ("ISO 2022 GARBAGE", b"D\xf6e^Jane", "D?e^Jane", False),
    "one of two unknown": (["ISO 2022 IR 6", "ISO 2022 GARBAGE"], b"D\xf6e^Jane", "D?e^Jane", False),
    "UTF-8, none stated": (None, "Dö^Jane".encode(), "Dö^Jane", False),
    "Latin-1, none stated": (None, b"D\xf6e^Jane", "Döe^Jane", False),
    "Latin-1, stated as UTF-8": ("ISO_IR 192", b"D\xf6e^Jane", "D?e^Jane", False),
    "broken escape": (["", "ISO 2022 IR 87"], b"D\x1b$B\xff\xff^J", "D?$B??^J", False),
    "misspelt term": ("ISO-IR 100", b"D\xf6e^Jane", "Döe^Jane", True),
    "one term with extensions": ("ISO 2022 IR 100", b"D\xf6e^Jane", "Döe^Jane", True),
    "Japanese": (["", "ISO 2022 IR 87"], b"Y\x1b$B;3\x1b(B^", "Y山^", True),
    "Latin-1": ("ISO_IR 100", b"D\xf6e^Jane", "Döe^Jane", True),
    "UTF-8": ("ISO_IR 192", "Dö^Jane".encode(), "Dö^Jane", True),
    "GB18030": ("GB18030", "王^小东".encode("gb18030"), "王^小东", True),
}


def spelt_files(folder: Path, stated: Any, name: bytes) -> list[Path]:
    """Files of a series with these bytes as the patient's name, and in a text of a sequence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = series(folder, PatientName="N" * len(name), StudyDescription="N" * len(name))
        for file in files:
            image = pydicom.dcmread(file)
            if stated is not None:
                image.SpecificCharacterSet = stated
            image.save_as(file)
            content = file.read_bytes()
            wanted = b"N" * len(name)
            assert content.count(wanted) == 2
            file.write_bytes(content.replace(wanted, name))
    return files


def spelt(folder: Path, stated: Any, name: bytes) -> Case:
    """The case of such a series."""
    return make_case(spelt_files(folder, stated, name))


@pytest.mark.parametrize("kind", NAMES)
def test_results_hold_what_can_be_decoded(tmp_path, kind, caplog):
    stated, stored, name, certain = NAMES[kind]
    with caplog.at_level(logging.DEBUG, "pydicom"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = spelt_files(tmp_path / "in", stated, stored)
        caplog.clear()  # what pydicom says while the test writes its files
        case = make_case(files)
        after = SaveDicomd("pred", tmp_path / "out", KINDS, MODEL)(case.data)
    assert ("warning_codes" in after) == (not certain)
    if not certain:
        assert after["warning_codes"] == "text-replaced"
        assert len(after["warnings"]) == 1
        assert name not in after["warnings"][0]
    said = [line for line in caplog.messages if "ncoding" in line or "haracter" in line]
    assert len([line for line in said if not line.startswith("case 'anna'")]) == 0, said
    assert not [one for one in caught if "ncoding" in str(one.message)] or stated is not None
    for number in KINDS:
        path = tmp_path / "out" / "anna" / f"{number}.dcm"
        result = pydicom.dcmread(path)
        assert str(result.PatientName) == name
        assert result.StudyDescription == name
        # The source has this error, too: a missing Laterality.
        assert not {line for line in dciodvfy_errors(path) if "Laterality" not in line}
    stored_map = pydicom.dcmread(tmp_path / "out" / "anna" / "pm.dcm").pixel_array
    assert {frame.tobytes() for frame in stored_map} == {case.values[..., k].T.tobytes() for k in range(6)}


def test_the_map_does_not_depend_on_the_character_set(tmp_path):
    plain, odd = spelt(tmp_path / "a", None, b"Doe^Jane"), spelt(tmp_path / "b", "GARBAGE", b"D\xf6e^Jane")
    np.testing.assert_array_equal(read(plain.files)[0], read(odd.files)[0])


def test_texts_of_sequences_are_decoded_too(tmp_path):
    files = series(tmp_path / "in")
    for file in files:
        image = pydicom.dcmread(file)
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "NNNNN"
        image.ProcedureCodeSequence = [item]
        image.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"NNNNN", b"N\xe9NNN"))
    SaveDicomd("pred", tmp_path / "out", KINDS, MODEL)(make_case(files).data)
    result = pydicom.dcmread(tmp_path / "out" / "anna" / "pm.dcm")
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert result.ProcedureCodeSequence[0].CodeMeaning == "NéNNN"
