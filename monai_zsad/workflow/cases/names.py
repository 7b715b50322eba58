"""Names of the cases of a run: a salted hash, the name of a file, or a name that the user gave."""

from __future__ import annotations

import csv
import os
import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from monai_zsad.data import IMAGE_SUFFIXES, FoundScans, LeftOut, find_scans
from monai_zsad.data.dicom import limit_deflated
from monai_zsad.data.discovery import LIST_SUFFIXES, hashed_id, read_scan_list, unique_ids
from monai_zsad.data.formats import SLICE_SUFFIXES
from monai_zsad.data.scan import READ_ERRORS
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.result_files import temporary_name
from monai_zsad.workflow.cases.redaction import redact_cases, redact_left_out, redacted_search
from monai_zsad.writers import atomic_path, without_paths

__all__ = ["CASE_NAMES", "ORDERS", "SALT_VARIABLE", "find_cases", "ordered"]

CASE_NAMES = ("auto", "files", "hash", "uid")
"""Ways to name cases, see :func:`find_cases`."""

ORDERS = ("path", "random", "size")
"""Orders of the cases: by path, random (the same in every run), or large files first, so no long case comes last."""

SALT_VARIABLE = "MONAI_ZSAD_SALT"
"""Environment variable with the salt of the hashes. With it, a scan has the same name in all output folders."""

_Record = TypeVar("_Record", bound=Mapping[str, Any])
_SALT_FILE = ".case_salt"
_SHORTEST_SALT = 8


def find_cases(
    path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    names: str = "auto",
    key_file: str | os.PathLike[str] | None = None,
    *,
    series: str | int | None = None,
    download: str | os.PathLike[str] | None = None,
    order: str = "path",
) -> FoundScans:
    """Find the scans at a path, and give them names without the name of a patient.

    :func:`~monai_zsad.data.find_scans` names a case after its file or folder. The user chose the name of a NIfTI file.
    But the folders of a DICOM export often have the name of the patient. So the name of a DICOM series is ``case-`` and
    16 digits of a salted hash of its SeriesInstanceUID. Log lines and errors do not name its files and folders. They
    show the case, and the number of a file in the sorted series. The user's names in a list of scans are kept.

    The salt is a secret. Without it, nobody can find out whether a known series is among the results. It comes from the
    environment variable ``MONAI_ZSAD_SALT``. If this is not set, the first run writes ``<output_dir>/.case_salt``, and
    a resumed run reads it. Only the user can read this file. Do not share it with the results.

    Args:
        path: see :func:`~monai_zsad.data.find_scans`.
        output_dir: folder of the run. The search leaves it out.
        names: ``"auto"`` (see above); ``"files"`` (names of files and folders, also for DICOM, and log lines show them,
            too); ``"hash"`` (a hash for every case, also for other formats and for cases with a name in a list); or
            ``"uid"`` (as ``"auto"``, but the name of a DICOM series is its SeriesInstanceUID).
        key_file: CSV file to write, with the scan of each case, and with each input that is not screened. Only the
            user can read it. ``None``: no file.
        series: see :func:`~monai_zsad.data.find_scans`.
        download: see :func:`~monai_zsad.data.find_scans`.
        order: see :func:`ordered`.

    Returns:
        Records of :func:`~monai_zsad.data.find_scans`. All cases have different names. Inputs that are not screened are
        in ``left_out``, without the names of private files and folders.

    Raises:
        ConfigurationError: if ``names`` is not in :data:`CASE_NAMES`, or if the salt in the environment is too short.
        InputError: see :func:`~monai_zsad.data.find_scans`.
        OutputError: if the salt or the key file cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "anna.nii.gz").touch()
        >>> [record["case"] for record in find_cases(folder, folder / "out")]
        ['anna']
        >>> find_cases(folder, folder / "out", "hash")[0]["case"].startswith("case-")
        True
    """
    if names not in CASE_NAMES:
        raise ConfigurationError(f"case_names={names!r}: choose {', '.join(CASE_NAMES)}")
    root = Path(path).expanduser()
    records: Sequence[dict[str, Any]]
    if names == "files":
        found = find_scans(path, output_dir, series, download)
        records, private = found, [False] * len(found)
        left_out, mark = list(found.left_out), found.mark
    else:
        folder = Path(output_dir).expanduser()
        with redacted_search(root):
            found = find_scans(path, output_dir, series, download)
        records, private = _named(found, _own_ids(root, len(found)), names, folder)
        left_out, mark = redact_left_out(found, names, _salt(folder) if found.left_out or _has_salt(folder) else "")
    redact_cases(records, private)
    if key_file is not None:
        _write_key(Path(key_file).expanduser(), records, zip(left_out, found.left_out, strict=True))
    return FoundScans(ordered(records, order), left_out, mark)


def _own_ids(root: Path, count: int) -> list[bool]:
    """For each scan, whether a list of scans gives it a name."""
    if root.is_file() and root.name.lower().endswith(LIST_SUFFIXES):
        return [bool(entry.case) for entry in read_scan_list(root)]
    return [False] * count


def _named(
    records: Sequence[dict[str, Any]], own: Sequence[bool], names: str, output_dir: Path
) -> tuple[list[dict[str, Any]], list[bool]]:
    wanted, private = [], []
    salt = ""
    for record, is_own in zip(records, own, strict=True):
        dicom = _is_dicom(record["image"])
        hidden = names == "hash" or (dicom and not is_own)
        case = str(record["case"])
        if hidden:
            uid = _series_uid(record["image"]) if dicom else ""
            if uid and names == "uid":
                case = uid
            else:
                salt = salt or _salt(output_dir)
                case = hashed_id(f"series {uid}" if uid else f"name {case}", salt)
            # The name of a volume is the same whether the others of its series are screened, too, or not.
            case += f"_v{record['part']}" if uid and record.get("part") else ""
        wanted.append((case,))
        # The user chose the name in the list, but not the names of the folders.
        private.append(hidden or dicom)
    cases = unique_ids(wanted)
    named = [{**record, "case": case} for record, case in zip(records, cases, strict=True)]
    return [_without_names(one) if hide else one for one, hide in zip(named, private, strict=True)], private


def _without_names(record: dict[str, Any]) -> dict[str, Any]:
    """A record with warnings that name neither its files nor other files in their folders."""
    if not record.get("warnings"):
        return record
    files = [record["image"]] if isinstance(record["image"], str) else list(record["image"])
    text = without_paths(str(record["warnings"]), files, record["case"])
    for folder in {os.path.dirname(file) for file in files}:
        for name in os.listdir(folder):
            text = without_paths(text, [os.path.join(folder, name)], "a file beside it")
    return {**record, "warnings": text}


def _is_dicom(image: str | list[str]) -> bool:
    return not isinstance(image, str) or not image.lower().endswith((*IMAGE_SUFFIXES, *SLICE_SUFFIXES))


def _series_uid(image: str | list[str]) -> str:
    """SeriesInstanceUID of the first file that has one. Empty if no file can be read: the reader reports this later."""
    return next(filter(None, map(_uid_of, [image] if isinstance(image, str) else image)), "")


def _uid_of(file: str) -> str:
    import pydicom

    try:
        limit_deflated(Path(file))
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=["SeriesInstanceUID"])
        return str(header.get("SeriesInstanceUID") or "")
    except READ_ERRORS:
        return ""


def _salt(folder: Path) -> str:
    if given := os.environ.get(SALT_VARIABLE, ""):
        if len(given) < _SHORTEST_SALT:
            raise ConfigurationError(f"{SALT_VARIABLE} has {len(given)} characters: give at least {_SHORTEST_SALT}")
        return given
    file = folder / _SALT_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _make_salt(file)
        salt = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no salt"
        raise OutputError(
            f"{file}: cannot be used ({reason}); give another --output_dir, or a salt in {SALT_VARIABLE}"
        ) from error
    if len(salt) < _SHORTEST_SALT:
        raise OutputError(f"{file}: has no salt; restore the file, or remove it to give the cases new names")
    return salt


def _has_salt(folder: Path) -> bool:
    return bool(os.environ.get(SALT_VARIABLE)) or (folder / _SALT_FILE).exists()


def _make_salt(file: Path) -> None:
    # The file must never be half written. If two runs start together, both use the salt of the first one.
    temporary = file.with_name(temporary_name(file.name))
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, file)
        except FileExistsError:
            return
        except OSError:
            # This file system has no links.
            os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _write_key(file: Path, records: Sequence[Mapping[str, Any]], left_out: Iterable[tuple[LeftOut, LeftOut]]) -> None:
    with atomic_path(file) as temporary:
        temporary.touch(mode=0o600)
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["case", "image"])
            for record in records:
                image = record["image"]
                table.writerow([record["case"], image if isinstance(image, str) else os.path.commonpath(image)])
            table.writerows([named.case, known.path] for named, known in left_out)


def ordered(records: Sequence[_Record], order: str = "path") -> list[_Record]:
    """Sort records of :func:`~monai_zsad.data.find_scans`.

    Args:
        records: the records, sorted by path.
        order: one of :data:`ORDERS`.

    Raises:
        ConfigurationError: if ``order`` is not in :data:`ORDERS`.

    Example:
        >>> ordered([{"case": "anna"}, {"case": "ben"}], "path")[0]["case"]
        'anna'
    """
    if order not in ORDERS:
        raise ConfigurationError(f"order={order!r}: choose {', '.join(ORDERS)}")
    if order == "path":
        return list(records)
    if order == "size":
        return sorted(records, key=lambda record: -_bytes(record["image"]))
    by_case = sorted(records, key=lambda record: str(record["case"]))
    random.Random(0).shuffle(by_case)
    return by_case


def _bytes(image: str | Sequence[str]) -> int:
    """Size of the files of a scan. A missing file counts as empty: the scan fails later, without the other scans."""
    files = [image] if isinstance(image, str) else image
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file))
