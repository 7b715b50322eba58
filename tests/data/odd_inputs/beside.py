"""Inputs beside a scan that are not screened: each is listed with its code, and the scan is read as if alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from monai_zsad.result_files import CASE_FILES
from tests.data.odd_inputs.catalogue import Odd, kind
from tests.data.odd_inputs.nifti import nifti
from tests.data.samples import CAPTURE, SEG, write_nifti, write_series


def beside(folder: Path) -> Odd:
    """The scan beside which something lies."""
    _, truth = nifti(folder, "scan.nii.gz")
    return Odd(folder, [truth])


@kind("left-out localizer")
def localizer_beside(folder: Path) -> Odd:
    write_series(folder / "scout", slices=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return beside(folder)


@kind("left-out capture")
def capture_beside(folder: Path) -> Odd:
    write_series(folder / "dose", slices=1, sop_class=CAPTURE)
    return beside(folder)


@kind("left-out other-object")
def segmentation_object_beside(folder: Path) -> Odd:
    write_series(folder / "seg", slices=1, sop_class=SEG)
    return beside(folder)


@kind("left-out mask")
def mask_beside(folder: Path) -> Odd:
    values = np.zeros((8, 9, 5), dtype="u1")
    values[2:5] = 1
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "scan_seg.nii")
    return beside(folder)


@kind("left-out mask")
def slicer_segmentation_beside(folder: Path) -> Odd:
    (folder / "Segmentation.seg.nrrd").write_bytes(b"NRRD0004\n")
    return beside(folder)


@kind("left-out image-beside")
def screenshot_beside(folder: Path) -> Odd:
    Image.new("L", (4, 4)).save(folder / "screenshot.png")
    return beside(folder)


@kind("left-out image-beside")
def photograph_beside(folder: Path) -> Odd:
    Image.new("RGB", (4, 4)).save(folder / "photograph.tif")
    return beside(folder)


@kind("left-out copy")
def archive_of_the_scan_beside(folder: Path) -> Odd:
    odd = beside(folder)
    with zipfile.ZipFile(folder / "sent.zip", "w") as archive:
        archive.write(folder / "scan.nii.gz", "scan.nii.gz")
    return odd


@kind("left-out earlier-results")
def results_beside(folder: Path) -> Odd:
    case = folder / "results" / "anna"
    write_nifti(case / CASE_FILES["anomaly_map"].name)
    (case / CASE_FILES["manifest"].name).write_text('{"schema": "monai-zsad/manifest"}')
    return beside(folder)


@kind("left-out unread-archive")
def tar_beside(folder: Path) -> Odd:
    (folder / "study.tar").write_bytes(bytes(1024))
    return beside(folder)


@kind("left-out unread-format")
def mrtrix_image_beside(folder: Path) -> Odd:
    (folder / "dwi.mif").write_bytes(b"mrtrix image\n")
    return beside(folder)


@kind("refused unread-format")
def mrtrix_image_in_a_list(folder: Path) -> Odd:
    (folder / "dwi.mif").write_bytes(b"mrtrix image\n")
    (folder / "list.csv").write_text("image\ndwi.mif\n")
    return Odd(folder / "list.csv")


@kind("left-out damaged")
def broken_dicom_file_beside(folder: Path) -> Odd:
    """The mark of DICOM, and nothing behind it that can be parsed; its name says nothing."""
    (folder / "study").mkdir()
    (folder / "study" / "export.bin").write_bytes(bytes(128) + b"DICM" + b"\xff" * 60)
    return beside(folder)


@kind("left-out damaged")
def text_named_dicom_beside(folder: Path) -> Odd:
    (folder / "I0001.IMA").write_text("<html>404 Not Found</html>")
    return beside(folder)


@kind("left-out empty-file")
def empty_dicom_file_beside(folder: Path) -> Odd:
    (folder / "IM_0001").touch()
    return beside(folder)


@kind("left-out missing-file")
def broken_link_beside(folder: Path) -> Odd:
    (folder / "study").symlink_to(folder / "moved away")
    return beside(folder)
