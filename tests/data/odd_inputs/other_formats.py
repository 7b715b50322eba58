"""Packed NIfTI, pairs of header and voxels, MGH, MINC and PAR/REC, each written here byte by byte or by its library."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import nibabel
import numpy as np
from nibabel.spm99analyze import Spm99AnalyzeImage
from scipy.io import netcdf_file

from tests.data.odd_inputs.catalogue import AFFINE, Odd, Truth, kind, volume_truth
from tests.data.odd_inputs.nifti import change_header, nifti

try:
    from compression import zstd  # type: ignore[import-not-found]
except ImportError:
    from backports import zstd

VALUES = np.random.default_rng(9).integers(0, 900, (6, 5, 4)).astype("i2")
Build = Callable[[Path], Odd]
_PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress,
}  # fmt: skip


def _add(name: str, verdict: str, build: Build) -> None:
    build.__name__ = name
    kind(verdict)(build)


def _packed(ending: str, cut: int = 0) -> Build:
    def build(folder: Path) -> Odd:
        file, truth = nifti(folder, "a.nii")
        content = _PACK[ending](file.read_bytes())
        file.unlink()
        (folder / f"a.nii{ending}").write_bytes(content[: len(content) - cut])
        return Odd(folder, [truth])

    return build


for _ending in (".bz2", ".xz", ".zst"):
    _add(f"nifti_packed_as_{_ending[1:]}", "ok", _packed(_ending))
    _add(f"nifti_packed_as_{_ending[1:]}_cut", "refused damaged", _packed(_ending, 20))


@kind("refused implausible-compression")
def xz_bomb(folder: Path) -> Odd:
    header = nibabel.Nifti1Header()
    header.set_data_shape((800, 800, 800))
    header.set_data_dtype(np.uint8)
    header.set_sform(AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (folder / "a.nii.xz").write_bytes(lzma.compress(header.binaryblock + bytes(4000)))
    return Odd(folder)


def _pair(folder: Path, image: Any, named: str = "") -> Odd:
    """A pair in a folder is one scan; either of its files can be given."""
    nibabel.save(image, folder / "a.img")
    values = np.asarray(image.dataobj)
    return Odd(folder / named, [volume_truth(values, image.affine)])


@kind("ok")
def nifti_pair(folder: Path) -> Odd:
    return _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))


@kind("ok")
def nifti_pair_named_by_its_header(folder: Path) -> Odd:
    return _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE), "a.hdr")


@kind("ok")
def nifti_pair_named_by_its_voxels(folder: Path) -> Odd:
    return _pair(folder, nibabel.Nifti2Pair(VALUES, AFFINE), "a.img")


@kind("ok")
def nifti_pair_packed(folder: Path) -> Odd:
    odd = _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))
    for name in ("a.hdr", "a.img"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    return odd


@kind("ok")
def nifti_pair_with_packed_voxels(folder: Path) -> Odd:
    odd = _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE), "a.hdr")
    (folder / "a.img.bz2").write_bytes(bz2.compress((folder / "a.img").read_bytes()))
    (folder / "a.img").unlink()
    return odd


@kind("refused detached-data")
def nifti_pair_without_voxels(folder: Path) -> Odd:
    odd = _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))
    (folder / "a.img").unlink()
    return odd


@kind("refused detached-data")
def nifti_pair_without_header(folder: Path) -> Odd:
    _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))
    (folder / "a.hdr").unlink()
    return Odd([folder / "a.img"])


@kind("refused damaged")
def nifti_pair_truncated(folder: Path) -> Odd:
    odd = _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))
    (folder / "a.img").write_bytes((folder / "a.img").read_bytes()[:-3])
    return odd


@kind("refused no-geometry")
def nifti_pair_without_forms(folder: Path) -> Odd:
    odd = _pair(folder, nibabel.Nifti1Pair(VALUES, AFFINE))
    change_header(folder / "a.hdr", sform_code=0, qform_code=0)
    return odd


def _analyze(folder: Path) -> Odd:
    """The usual reading: columns from right to left, the middle at 0."""
    image = nibabel.AnalyzeImage(VALUES, np.diag([-2.0, 3, 4, 1]))
    nibabel.save(image, folder / "a.img")
    affine = np.diag([-2.0, 3, 4, 1])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(VALUES.shape) - 1) / 2
    return Odd(folder / "a.hdr", [volume_truth(VALUES, affine)])


@kind("refused no-geometry")
def analyze_pair(folder: Path) -> Odd:
    return _analyze(folder)


@kind("repaired no-geometry")
def analyze_pair_accepted(folder: Path) -> Odd:
    odd = _analyze(folder)
    return Odd(odd.source, odd.truths, {"accept": "no-geometry"})


@kind("ok")
def analyze_pair_with_a_matrix(folder: Path) -> Odd:
    image = Spm99AnalyzeImage(VALUES, AFFINE)
    nibabel.save(image, folder / "a.img")
    return Odd(folder, [volume_truth(VALUES, AFFINE)])


@kind("refused no-geometry")
def analyze_pair_with_another_mat_file(folder: Path) -> Odd:
    (folder / "a.mat").write_text("1 0 0 0\n0 1 0 0\n")
    return _analyze(folder)


def _mgh(values: np.ndarray, code: int, good: int = 1, tail: bytes = bytes(20)) -> bytes:
    """FreeSurfer's format: the centre of the volume is voxel ``dims / 2``."""
    lengths = np.linalg.norm(AFFINE[:3, :3], axis=0)
    centre = AFFINE[:3, :3] @ (np.array(values.shape[:3]) / 2) + AFFINE[:3, 3]
    frames = values.shape[3] if values.ndim == 4 else 1
    head = struct.pack(">7ih", 1, *values.shape[:3], frames, code, 0, good)
    head += struct.pack(">15f", *lengths, *(AFFINE[:3, :3] / lengths).T.ravel(), *centre)
    return head.ljust(284, b"\0") + values.tobytes(order="F") + tail


def _add_mgh(name: str, verdict: str, file: str, content: bytes, truth: np.ndarray = VALUES, **options: Any) -> None:
    def build(folder: Path) -> Odd:
        (folder / file).write_bytes(gzip.compress(content) if file.endswith(("z", "gz")) else content)
        return Odd(folder, [volume_truth(truth, AFFINE)], options)

    _add(name, verdict, build)


_MGH = _mgh(VALUES.astype(">i2"), 4)
_SERIES = np.stack([VALUES, VALUES[::-1]], axis=-1).astype(">f4")
_add_mgh("mgh", "ok", "a.mgh", _MGH)
_add_mgh("mgz", "ok", "a.mgz", _MGH)
_add_mgh("mgh_gz", "ok", "a.mgh.gz", _MGH)
_add_mgh("mgz_with_much_behind_the_voxels", "ok", "a.mgz", _MGH + bytes(9000))
_add_mgh("mgz_without_a_footer", "ok", "a.mgz", _MGH[:-20])
_add_mgh("mgz_of_bytes", "ok", "a.mgz", _mgh((VALUES // 4).astype("u1"), 0), VALUES // 4)
_add_mgh("mgz_without_geometry", "refused no-geometry", "a.mgz", _mgh(VALUES.astype(">i2"), 4, good=0))
_add_mgh("mgz_time_series", "refused not-3d", "a.mgz", _mgh(_SERIES, 3))
_add_mgh("mgz_volume_of_a_time_series", "ok", "a.mgz", _mgh(_SERIES, 3), VALUES[::-1], volume=1)
_add_mgh("mgh_truncated", "refused damaged", "a.mgh", _MGH[:-30])
_add_mgh("mgz_truncated_before_packing", "refused damaged", "a.mgz", _MGH[:-30])
_add_mgh("mgz_of_a_short_header", "refused damaged", "a.mgz", _MGH[:200])
_add_mgh(
    "mgz_of_huge_dimensions",
    "refused too-large",
    "a.mgz",
    struct.pack(">7i", 1, 9999, 9999, 9999, 1, 4, 0).ljust(400, b"\0"),
)


@kind("refused damaged")
def mgz_with_a_wrong_checksum(folder: Path) -> Odd:
    content = bytearray(gzip.compress(_MGH))
    content[-6] ^= 1
    (folder / "a.mgz").write_bytes(bytes(content))
    return Odd(folder)


# MINC: slices of 3 mm along z, turned by 0.6 and 0.8; each slice has its own scale.
_STEPS, _STARTS = {"xspace": 1.5, "yspace": -2.0, "zspace": 3.0}, {"xspace": 5.0, "yspace": 6.0, "zspace": -7.0}
_COSINES = {"xspace": [0.6, 0.8, 0.0], "yspace": [-0.8, 0.6, 0.0], "zspace": [0.0, 0.0, 1.0]}
_NAMES = ("zspace", "yspace", "xspace")
_LOW, _HIGH = np.array([0.0, -10, 5, 0, 0, 3]), np.array([100.0, 50, 80, 1000, 1, 9])


def _minc_truth() -> Truth:
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([np.array(_COSINES[name]) * _STEPS[name] for name in _NAMES])
    affine[:3, 3] = sum(np.array(_COSINES[name]) * _STARTS[name] for name in _NAMES)
    slope = (_HIGH - _LOW) / 4095
    return volume_truth(VALUES * slope[:, None, None] + _LOW[:, None, None], affine)


def _minc1(folder: Path, names: tuple[str, ...] = _NAMES, values: np.ndarray = VALUES, geometry: bool = True) -> Path:
    with netcdf_file(folder / "a.mnc", "w") as file:
        for name, length in zip(names, values.shape, strict=True):
            file.createDimension(name, length)
            axis = file.createVariable(name, "i", ())
            axis.spacing = b"regular__"
            if name in _STEPS:
                axis.direction_cosines, axis.units = np.array(_COSINES[name]), b"mm"
                if geometry:
                    axis.step, axis.start = _STEPS[name], _STARTS[name]
        image = file.createVariable("image", "h", names)
        image.signtype, image.valid_range = b"signed__", np.array([0.0, 4095.0])
        image[:] = values
        for name, limits in (("image-min", _LOW), ("image-max", _HIGH)):
            scaled = file.createVariable(name, "d", ("zspace",) if names[0] == "zspace" else ())
            scaled[...] = limits if names[0] == "zspace" else limits[3]
    return folder / "a.mnc"


@kind("ok")
def minc1(folder: Path) -> Odd:
    _minc1(folder)
    return Odd(folder, [_minc_truth()])


@kind("ok")
def minc1_packed(folder: Path) -> Odd:
    file = _minc1(folder)
    (folder / "a.mnc.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return Odd(folder, [_minc_truth()])


@kind("refused damaged")
def minc1_truncated(folder: Path) -> Odd:
    file = _minc1(folder)
    file.write_bytes(file.read_bytes()[:-200])
    return Odd(folder)


@kind("refused no-geometry")
def minc1_without_geometry(folder: Path) -> Odd:
    return Odd(_minc1(folder, geometry=False))


def _minc1_times(folder: Path, **options: Any) -> Odd:
    """Time is the first axis; the scale of all voxels is one."""
    _minc1(folder, ("time", *_NAMES), np.stack([VALUES, VALUES[:, ::-1], VALUES[::-1]]))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([np.array(_COSINES[name]) * _STEPS[name] for name in _NAMES])
    affine[:3, 3] = sum(np.array(_COSINES[name]) * _STARTS[name] for name in _NAMES)
    return Odd(folder, [volume_truth(VALUES[:, ::-1] * (1000 / 4095), affine)], options)


@kind("refused not-3d")
def minc1_time_series(folder: Path) -> Odd:
    return _minc1_times(folder)


@kind("ok")
def minc1_volume_of_a_time_series(folder: Path) -> Odd:
    return _minc1_times(folder, volume=1)


def _minc2(folder: Path, values: np.ndarray = VALUES, **layout: Any) -> Path:
    with h5py.File(folder / "a.mnc", "w") as file:
        for name, length in zip(_NAMES, values.shape, strict=True):
            axis = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            axis.attrs.update(
                {
                    "length": length, "spacing": np.bytes_("regular__"), "units": np.bytes_("mm"),
                    "step": _STEPS[name], "start": _STARTS[name], "direction_cosines": _COSINES[name],
                }
            )  # fmt: skip
        image = file.create_dataset("minc-2.0/image/0/image", data=values, **layout)
        image.attrs.update({"dimorder": np.bytes_(",".join(_NAMES)), "valid_range": [0.0, 4095.0]})
        for name, limits in (("image-min", _LOW), ("image-max", _HIGH)):
            scaled = file.create_dataset(f"minc-2.0/image/0/{name}", data=limits)
            scaled.attrs["dimorder"] = np.bytes_("zspace")
    return folder / "a.mnc"


@kind("ok")
def minc2(folder: Path) -> Odd:
    _minc2(folder)
    return Odd(folder, [_minc_truth()])


@kind("ok")
def minc2_in_packed_parts(folder: Path) -> Odd:
    _minc2(folder, chunks=(2, 5, 4), compression="gzip", fletcher32=True)
    return Odd(folder, [_minc_truth()])


@kind("refused damaged")
def minc2_truncated(folder: Path) -> Odd:
    file = _minc2(folder)
    file.write_bytes(file.read_bytes()[:-200])
    return Odd(folder)


@kind("refused detached-data")
def minc2_elsewhere(folder: Path) -> Odd:
    """A MINC file may name any file of the machine as its data."""
    file = _minc2(folder)
    (folder / "other").write_bytes(VALUES.tobytes())
    with h5py.File(file, "a") as opened:
        attributes = dict(opened["minc-2.0/image/0/image"].attrs)
        del opened["minc-2.0/image/0/image"]
        image = opened.create_dataset(
            "minc-2.0/image/0/image", VALUES.shape, "i2", external=[(str(folder / "other"), 0, VALUES.nbytes)]
        )
        image.attrs.update(attributes)
    return Odd(file)


_GENERAL = """# === DATA DESCRIPTION FILE ===
# CLINICAL TRYOUT             Research image export tool     V4.2
.    Patient name                       :   phantom
.    Examination name                   :   test
.    Protocol name                      :   test
.    Examination date/time              :   2014.02.14 / 09:00:57
.    Max. number of cardiac phases      :   1
.    Max. number of echoes              :   {echoes}
.    Max. number of slices/locations    :   4
.    Max. number of dynamics            :   1
.    Max. number of mixes               :   1
.    Repetition time [ms]               :   2000.000
.    FOV (ap,fh,rl) [mm]                :   240.000  70.000  240.000
.    Angulation midslice(ap,fh,rl)[degr]:   0.0  0.0  0.0
.    Off Centre midslice(ap,fh,rl) [mm] :   2.50  30.00  -16.00
.    EPI factor        <0,1=no EPI>     :   39
.    Dynamic scan      <0=no 1=yes> ?   :   0
.    Diffusion         <0=no 1=yes> ?   :   0
"""
_IMAGE = (
    "{slice} {echo} 1 1 0 2 {index} 16 62 6 5 -3.0 {slope} 4.2e-003 1070 1860 0.0 0.0 0.0 2.50 {height} -16.0 "
    "6.000 2.000 0 1 0 2 1.5 2.0 30.0 0.0 0.0 0.0 0 90.0 0 0 0 39 0.0 1 1 8 0 0.0 0.0 0.0 1\n"
)


def _par(folder: Path, order: list[int] | None = None, echoes: int = 1, shift: float = 0.0, **options: Any) -> Odd:
    """Transverse slices 8 mm apart: columns from right to left, rows from front to back, each slice with its scale."""
    count = 4 * echoes
    lines = [
        _IMAGE.format(
            slice=n % 4 + 1, echo=n // 4 + 1, index=n, slope=1 + n, height=30 + 8 * (n % 4 - 1.5) + shift * (n == 2)
        )
        for n in range(count)
    ]
    (folder / "a.PAR").write_text(_GENERAL.format(echoes=echoes) + "".join(lines[n] for n in order or range(count)))
    stored = np.concatenate([VALUES, VALUES[::-1]], axis=2)[..., :count]
    (folder / "a.REC").write_bytes(stored.astype("<u2").tobytes(order="F"))
    first = 4 * options.get("volume", 0)
    values = stored[..., first : first + 4] * (1.0 + first + np.arange(4)) - 3
    affine = np.diag([-1.5, -2.0, 8.0, 1.0])
    affine[:3, 3] = [16 + 1.5 * 2.5, -2.5 + 2.0 * 2, 30 - 8 * 1.5]
    return Odd(folder, [volume_truth(values, affine)], options)


@kind("ok")
def par_rec(folder: Path) -> Odd:
    return _par(folder)


@kind("ok")
def par_rec_named_by_its_voxels(folder: Path) -> Odd:
    return Odd(folder / "a.REC", _par(folder).truths)


@kind("ok")
def par_rec_listed_in_another_order(folder: Path) -> Odd:
    return _par(folder, [2, 0, 3, 1])


@kind("refused not-3d")
def par_rec_of_two_echoes(folder: Path) -> Odd:
    return _par(folder, echoes=2)


@kind("ok")
def par_rec_second_echo(folder: Path) -> Odd:
    return _par(folder, [1, 6, 0, 2, 4, 3, 7, 5], echoes=2, volume=1)


@kind("refused damaged")
def par_rec_without_a_slice(folder: Path) -> Odd:
    return _par(folder, [0, 1, 3])


@kind("refused damaged")
def par_rec_truncated(folder: Path) -> Odd:
    odd = _par(folder)
    (folder / "a.REC").write_bytes((folder / "a.REC").read_bytes()[:-3])
    return odd


@kind("refused forms-disagree")
def par_rec_with_a_slice_elsewhere(folder: Path) -> Odd:
    return _par(folder, shift=5.0)


@kind("refused detached-data")
def par_without_rec(folder: Path) -> Odd:
    odd = _par(folder)
    (folder / "a.REC").unlink()
    return odd
