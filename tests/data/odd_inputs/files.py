"""DICOM files beside others: names, copies, several series, damage."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pydicom
from PIL import Image
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.odd_inputs.series import along_z
from tests.data.samples import CAPTURE, SEG, strip_mark, write_series


@kind("ok")
def without_mark(folder: Path) -> Odd:
    """Bare data sets: no preamble, no file meta information, so that nothing states how they are coded."""
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        strip_mark(file)
    return Odd(folder / "s", [truth])


@kind("ok")
def without_mark_and_ending(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    truth = series_truth(files)
    for file in files:
        strip_mark(file)
    return Odd(folder / "s", [truth])


@kind("refused damaged")
def text_as_dicom(folder: Path) -> Odd:
    (folder / "a.dcm").write_text("no scan, but long enough to be taken for a header")
    return Odd([folder / "a.dcm"])


@kind("repaired jitter")
def jitter(folder: Path) -> Odd:
    files = write_series(folder / "s", orientation=AXIAL, ImagePositionPatient=along_z(z=lambda i: 0.05 * (i == 2)))
    places, values = series_truth(files)
    return Odd(folder / "s", [(places, values)])


@kind("repaired fewer-images")
def without_its_last_slice(folder: Path) -> Odd:
    *files, last = write_series(folder / "s", ImagesInAcquisition=6)
    last.unlink()
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired duplicates-dropped")
def identical_copies(folder: Path) -> Odd:
    files = write_series(folder / "s")
    shutil.copy(files[2], folder / "s" / "copy.dcm")
    shutil.copy(files[5], folder / "s" / "again.dcm")
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def stray_files(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    (folder / "s" / "notes.txt").write_text("nothing")
    (folder / "s" / "Thumbs.db").write_bytes(b"\0" * 10)
    Image.new("L", (4, 4)).save(folder / "s" / "preview.png")
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def dicomdir_beside(folder: Path) -> Odd:
    files = write_series(folder / "s")
    ds = pydicom.dcmread(files[0])
    for key in [element.keyword for element in ds if element.keyword]:
        delattr(ds, key)
    ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    pydicom.dcmwrite(folder / "s" / "DICOMDIR", ds)
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def dicomdir_itself(folder: Path) -> Odd:
    odd = dicomdir_beside(folder)
    return Odd(folder / "s" / "DICOMDIR", odd.truths)


@kind("ok")
def linked_folder(folder: Path) -> Odd:
    """Links to a folder elsewhere, to the same one again, and in a circle."""
    files = write_series(folder / "elsewhere")
    (folder / "s").mkdir()
    for name, target in (("a", folder / "elsewhere"), ("b", folder / "elsewhere"), ("c", folder / "s")):
        (folder / "s" / name).symlink_to(target)
    (folder / "elsewhere" / "d").symlink_to(folder)
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def pipe_beside(folder: Path) -> Odd:
    files = write_series(folder / "s")
    os.mkfifo(folder / "s" / "pipe")
    return Odd(folder / "s", [series_truth(files)])


@kind("repaired set-aside")
def localizer_and_captures_beside(folder: Path) -> Odd:
    files = write_series(folder / "s", prefix="a")
    write_series(folder / "s", prefix="l", slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(folder / "s", prefix="c", slices=1, sop_class=CAPTURE)
    write_series(folder / "s", prefix="g", slices=1, sop_class=SEG)
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def two_series_in_a_folder(folder: Path) -> Odd:
    files = [write_series(folder / "s", prefix=prefix, number=ord(prefix)) for prefix in "ab"]
    return Odd(folder / "s", [series_truth(series) for series in files])


@kind("refused several-series")
def two_series_as_one(folder: Path) -> Odd:
    files = [write_series(folder / "s", prefix=prefix, number=ord(prefix)) for prefix in "ab"]
    return Odd([*files[0], *files[1]])


def echoes(folder: Path) -> list[list[Path]]:
    series = []
    for prefix, echo in (("a", 10.0), ("b", 80.0)):
        uid = "1.2.3.4"
        series.append(
            write_series(
                folder / "s", prefix=prefix, number=ord(prefix), EchoTime=echo, SeriesInstanceUID=uid, SeriesNumber=1,
                FrameOfReferenceUID="1.2.3", StudyInstanceUID="1.2",
            )
        )  # fmt: skip
    return series


@kind("repaired several-volumes-split")
def two_echoes_in_a_folder(folder: Path) -> Odd:
    return Odd(folder / "s", [series_truth(files) for files in echoes(folder)])


@kind("refused several-volumes")
def two_echoes_as_one(folder: Path) -> Odd:
    return Odd(list(itertools.chain(*echoes(folder))))


@kind("refused several-volumes")
def two_time_points_as_one(folder: Path) -> Odd:
    files = echoes(folder)
    for number, group in enumerate(files):
        for file in group:
            ds = pydicom.dcmread(file)
            ds.EchoTime, ds.TemporalPositionIdentifier = 10.0, number
            ds.save_as(file)
    return Odd(list(itertools.chain(*files)))


@kind("refused empty-file")
def empty_slice(folder: Path) -> Odd:
    files = write_series(folder / "s")
    files[-1].write_bytes(b"")
    return Odd(folder / "s")


@kind("refused empty-file")
def empty_slice_without_extension(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    files[-1].write_bytes(b"")
    return Odd(folder / "s")


@kind("refused undecodable")
def truncated_slice(folder: Path) -> Odd:
    files = write_series(folder / "s")
    files[3].write_bytes(files[3].read_bytes()[:-20])
    return Odd(folder / "s")


@kind("refused no-pixels")
def slice_cut_in_its_header(folder: Path) -> Odd:
    files = write_series(folder / "s", suffix="")
    files[-1].write_bytes(files[-1].read_bytes()[:150])
    return Odd(folder / "s")


@kind("refused no-scan")
def empty_folder(folder: Path) -> Odd:
    return Odd(folder)


@kind("refused missing-file")
def missing_path(folder: Path) -> Odd:
    return Odd(folder / "gone.nii.gz")


@kind("refused is-folder")
def folder_for_the_reader(folder: Path) -> Odd:
    return Odd([folder])


@kind("refused not-an-image")
def segmentation_object(folder: Path) -> Odd:
    return Odd(write_series(folder / "s", slices=1, sop_class=SEG))


@kind("refused implausible-compression")
def deflated_bomb(folder: Path) -> Odd:
    (file,) = write_series(folder / "s", slices=1)
    ds = pydicom.dcmread(file)
    ds.PixelData = bytes(80_000_000)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(file, ds, little_endian=True, implicit_vr=False)
    return Odd([file])
