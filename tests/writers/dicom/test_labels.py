"""Malformed labels of a source: its DICOM results are written as those of any other."""

from __future__ import annotations

import pydicom

from tests.data.odd_inputs.labels import set_text
from tests.writers.dicom.results import make_case, save, series


def test_results_of_a_source_with_malformed_labels(tmp_path):
    files = series(tmp_path / "in")
    for file in files:
        ds = pydicom.dcmread(file)
        for keyword, text in (("SeriesNumber", b"3A"), ("InstanceNumber", b"IM 1"), ("AcquisitionNumber", b"1\\2")):
            set_text(ds, keyword, text)
        ds.save_as(file)
    written = save(make_case(files), tmp_path / "out")
    for path in written.values():
        assert pydicom.dcmread(path).StudyInstanceUID == pydicom.dcmread(files[0]).StudyInstanceUID
