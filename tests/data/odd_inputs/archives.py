"""Zip archives and lists of scans."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.data.odd_inputs.catalogue import Odd, kind, series_truth
from tests.data.odd_inputs.nifti import nifti
from tests.data.samples import write_series


def zipped(folder: Path, *names: str, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "z.zip"


@kind("ok")
def archive_of_two(folder: Path) -> Odd:
    files = write_series(folder / "s")
    _, truth = nifti(folder, "n.nii.gz")
    names = [str(file.relative_to(folder)) for file in files]
    return Odd(zipped(folder, "n.nii.gz", *names), [truth, series_truth(files)])


@kind("refused unsafe-archive")
def archive_that_climbs(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"../../evil.nii": b"x"}))


@kind("refused unsafe-archive")
def archive_with_absolute_path(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"/tmp/evil.nii": b"x"}))


@kind("refused unsafe-archive")
def archive_with_link(folder: Path) -> Odd:
    link = zipfile.ZipInfo("a.nii")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return Odd(folder / "z.zip")


@kind("refused implausible-compression")
def archive_bomb(folder: Path) -> Odd:
    return Odd(zipped(folder, **{"a.nii": bytes(80_000_000)}))


@kind("refused damaged")
def archive_cut_short(folder: Path) -> Odd:
    nifti(folder)
    file = zipped(folder, "a.nii.gz")
    file.write_bytes(file.read_bytes()[:-30])
    return Odd(file)


@kind("ok")
def csv_list(folder: Path) -> Odd:
    files = write_series(folder / "s")
    _, truth = nifti(folder)
    (folder / "list.csv").write_text("image,case,modality\na.nii.gz,anna,mr\ns,ben,\n")
    return Odd(folder / "list.csv", [truth, series_truth(files)])


@kind("ok")
def json_list(folder: Path) -> Odd:
    files = write_series(folder / "s")
    images = [str(file.relative_to(folder)) for file in files]
    (folder / "list.json").write_text(json.dumps({"scans": [{"image": images, "case": "ben"}]}))
    return Odd(folder / "list.json", [series_truth(files)])


@kind("refused bad-datalist")
def csv_without_images(folder: Path) -> Odd:
    (folder / "list.csv").write_text("file,case\na.nii.gz,anna\n")
    return Odd(folder / "list.csv")


@kind("refused bad-datalist")
def csv_with_a_case_twice(folder: Path) -> Odd:
    (folder / "list.csv").write_text("image,case\na.nii.gz,anna\nb.nii.gz,Anna\n")
    return Odd(folder / "list.csv")


@kind("refused bad-datalist")
def json_of_something_else(folder: Path) -> Odd:
    (folder / "list.json").write_text('{"a": 1}')
    return Odd(folder / "list.json")


@kind("refused missing-file")
def csv_with_a_missing_scan(folder: Path) -> Odd:
    (folder / "list.csv").write_text("image\ngone.nii.gz\n")
    return Odd(folder / "list.csv")
