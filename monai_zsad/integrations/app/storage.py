"""The private folder of the app: uploads and results, as long as somebody looks at them."""

from __future__ import annotations

import atexit
import math
import os
import secrets
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_zsad.data.discovery.archives import extract_archive, is_archive
from monai_zsad.errors import InputError

__all__ = ["MOST_FILES", "Session", "Storage"]

MOST_FILES = 5000
"""Most files of an upload. A CT of the whole body has about 2000 slices."""

_UNPACKED = 10
"""A zip may unpack to this number of times the limit of an upload."""


@dataclass
class Session:
    """What one open page holds.

    Attributes:
        folder: of this page alone.
        scan: folder with the uploaded scan; None before the first upload.
        token: secret part of the addresses of the results.
        results: folder of the results; None before the first run.
        uploads: files that the browser has sent.
    """

    folder: Path
    scan: Path | None = None
    token: str = ""
    results: Path | None = None
    uploads: list[Path] = field(default_factory=list)


class Storage:
    """A folder that only this user can read, with a part for each open page.

    Temporary files of the run lie in it too, such as an unpacked archive: while the storage is open, Python's
    temporary files are made there.

    Args:
        max_upload_mb: most megabytes (10^6 bytes) of an upload.

    Attributes:
        root: the folder.
        uploads: where the web server writes what a browser sends.
    """

    def __init__(self, max_upload_mb: float) -> None:
        self.max_bytes = int(max_upload_mb * 1e6)
        self.root = Path(tempfile.mkdtemp(prefix="monai-zsad-app-"))
        self.uploads, self._scratch = self.root / "uploads", self.root / "scratch"
        self.uploads.mkdir()
        self._scratch.mkdir()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._before, tempfile.tempdir = tempfile.tempdir, str(self._scratch)
        atexit.register(self.close)

    def session(self, key: str) -> Session:
        """The part of an open page; made on first use.

        Args:
            key: id of the page.
        """
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(Path(tempfile.mkdtemp(prefix="page-", dir=self.root)))
            return self._sessions[key]

    def take(self, session: Session, files: Sequence[str | os.PathLike[str]]) -> int:
        """Make the files of a browser the scan of a page. Its earlier scan and results are deleted.

        Args:
            session: the page's part.
            files: what was sent. Several files are one scan or several: slices, or a header and its data.

        Returns:
            Bytes of the scan.

        Raises:
            InputError: if there are too many files, they are too large, or a zip file is refused.
        """
        paths = [Path(file) for file in files]
        self._delete_scan(session, paths)
        session.uploads = paths
        size = sum(path.stat().st_size for path in paths)
        try:
            if len(paths) > MOST_FILES:
                raise InputError(f"upload: {len(paths)} files are more than {MOST_FILES}; send fewer, or a zip file")
            self.check_size(size)
            scan = session.folder / "scan"
            for path in paths:
                _put(path, scan)
            for archive in [path for path in scan.rglob("*") if is_archive(path)]:
                extract_archive(archive, archive.parent, _UNPACKED * self.max_bytes)
                archive.unlink()
        except InputError as error:
            self._delete_scan(session)
            raise InputError(self.without_folders(str(error)), code=error.code) from None
        session.scan = scan
        return size

    def check_size(self, size: int) -> None:
        """Refuse an upload that is too large.

        Args:
            size: bytes.

        Raises:
            InputError: if it is.
        """
        if size > self.max_bytes:
            raise InputError(
                f"upload: {size / 1e6:.1f} MB are more than the limit of {self.max_bytes / 1e6:g} MB; "
                f"start the app with `--max-upload {math.ceil(size / 1e6)}`"
            )

    def new_results(self, session: Session) -> Path:
        """An empty folder for the results of a page; the earlier ones are deleted.

        Args:
            session: the page's part.
        """
        self._delete_results(session)
        session.token = secrets.token_urlsafe(16)
        session.results = Path(tempfile.mkdtemp(prefix="results-", dir=session.folder))
        return session.results

    def result_file(self, token: str, case: str, name: str) -> Path | None:
        """A file to serve.

        Args:
            token: of the page that may see it.
            case: the case.
            name: name of one of the case's files.

        Returns:
            The file; None if there is none of that name, or it belongs to another page.
        """
        with self._lock:
            folders = [
                one.results
                for one in self._sessions.values()
                if one.results and one.token and secrets.compare_digest(one.token.encode(), token.encode())
            ]
        hidden = any(part.startswith(".") or Path(part).name != part for part in (case, name))
        if not folders or hidden:
            return None
        file = folders[0] / case / name
        return file if file.is_file() else None

    def write_zip(self, session: Session, case: str) -> None:
        """Put the files of a case into ``results.zip`` beside them.

        Args:
            session: the page's part.
            case: the case. The secret by which names of DICOM series are hashed is not among its files.
        """
        if session.results is None:
            return
        folder = session.results / case
        target = folder / "results.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted(folder.iterdir()):
                if file.is_file() and file != target and not file.name.startswith("."):
                    packed = file.name.endswith((".gz", ".png"))
                    kind = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
                    archive.write(file, f"{case}/{file.name}", kind)

    def forget(self, key: str) -> None:
        """Delete everything of a page.

        Args:
            key: id of the page.
        """
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is not None:
                self._delete_scan(session)
                shutil.rmtree(session.folder, ignore_errors=True)
            if not self._sessions:
                # What was sent by a page that closed before it used the files.
                _empty(self.uploads)

    def clear_scratch(self) -> None:
        """Delete what a run has left behind."""
        _empty(self._scratch)

    def without_folders(self, text: str) -> str:
        """A message without the private folder's path: the user does not know it.

        Args:
            text: the message.
        """
        for session in list(self._sessions.values()):
            text = text.replace(f"{session.folder / 'scan'}{os.sep}", "")
            text = text.replace(str(session.folder / "scan"), "upload")
        return text.replace(f"{self.root}{os.sep}", "")

    def close(self) -> None:
        """Delete everything."""
        tempfile.tempdir = self._before
        atexit.unregister(self.close)
        shutil.rmtree(self.root, ignore_errors=True)

    def _delete_scan(self, session: Session, keep: Sequence[Path] = ()) -> None:
        self._delete_results(session)
        shutil.rmtree(session.folder / "scan", ignore_errors=True)
        session.scan = None
        with self._lock:
            # Files of the same content have one path, also if two pages send them.
            others = {path for one in self._sessions.values() if one is not session for path in one.uploads}
        for path in session.uploads:
            if path not in others and path not in keep and self.uploads in path.parents:
                shutil.rmtree(path.parent, ignore_errors=True)
        session.uploads = []

    def _delete_results(self, session: Session) -> None:
        if session.results is not None:
            shutil.rmtree(session.results, ignore_errors=True)
        session.results, session.token = None, ""


def _put(file: Path, folder: Path) -> None:
    """A second name for the file in a folder; in one with a number if the name is taken."""
    target, number = folder / file.name, 1
    while target.exists():
        number += 1
        target = folder / str(number) / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _empty(folder: Path) -> None:
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
