"""The private folder: what is taken, what is refused, and that nothing is left behind."""

from __future__ import annotations

import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_zsad.errors import InputError
from monai_zsad.integrations.app.storage import MOST_FILES, Session, Storage


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Storage(max_upload_mb=1)
    yield made
    made.close()


def sent(storage: Storage, name: str, content: bytes = b"x", folder: str = "hash") -> Path:
    """A file as the web server writes it."""
    path = storage.uploads / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(session: Session) -> list[str]:
    if session.scan is None:
        return []
    return sorted(path.relative_to(session.scan).as_posix() for path in session.scan.rglob("*") if path.is_file())


def zipped(storage: Storage, members: dict[str, bytes]) -> Path:
    path = sent(storage, "study.zip", b"", "zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_only_the_user_can_read_it(storage: Storage):
    assert stat.S_IMODE(storage.root.stat().st_mode) == 0o700


def test_temporary_files_lie_in_it_until_it_is_closed(storage: Storage, tmp_path: Path):
    assert storage.root in Path(tempfile.mkdtemp()).parents
    storage.close()
    assert list(tmp_path.iterdir()) == []
    assert Path(tempfile.mkdtemp()).parent == tmp_path


def test_files_are_one_scan(storage: Storage):
    session = storage.session("page")
    assert storage.take(session, [sent(storage, "a.mhd", b"12"), sent(storage, "a.raw", b"345", "two")]) == 5
    assert names(session) == ["a.mhd", "a.raw"]


def test_files_of_one_name_are_kept_apart(storage: Storage):
    session = storage.session("page")
    files = [sent(storage, "IM1.dcm", bytes([number]), str(number)) for number in range(3)]
    storage.take(session, files)
    assert names(session) == ["2/IM1.dcm", "3/IM1.dcm", "IM1.dcm"]


def test_a_zip_file_is_unpacked(storage: Storage):
    session = storage.session("page")
    storage.take(session, [zipped(storage, {"series/1.dcm": b"1", "series/2.dcm": b"2"})])
    assert names(session) == ["study/series/1.dcm", "study/series/2.dcm"]


@pytest.mark.parametrize(
    "members",
    [{"../outside.dcm": b"1"}, {"bomb.nii": bytes(20_000_000)}],
    ids=["outside", "bomb"],
)
def test_a_harmful_zip_file_is_refused(storage: Storage, members: dict[str, bytes]):
    session = storage.session("page")
    with pytest.raises(InputError) as refused:
        storage.take(session, [zipped(storage, members)])
    assert str(storage.root) not in str(refused.value)
    assert session.scan is None
    assert not list(session.folder.rglob("*.*"))


def test_too_much_is_refused_with_the_remedy(storage: Storage):
    session = storage.session("page")
    files = [sent(storage, f"{number}.dcm", bytes(400_000), str(number)) for number in range(3)]
    with pytest.raises(InputError, match="--max-upload 2"):
        storage.take(session, files)
    assert session.scan is None
    assert not list(storage.uploads.iterdir())


def test_too_many_files_are_refused(storage: Storage):
    file = sent(storage, "1.dcm")
    with pytest.raises(InputError, match="zip"):
        storage.take(storage.session("page"), [file] * (MOST_FILES + 1))


def test_the_next_scan_replaces_the_first_and_its_results(storage: Storage):
    session = storage.session("page")
    first = sent(storage, "anna.nii")
    storage.take(session, [first])
    results = storage.new_results(session)
    storage.take(session, [sent(storage, "ben.nii", folder="two")])
    assert names(session) == ["ben.nii"]
    assert not first.exists()
    assert not results.exists()


def test_a_file_that_stays_in_the_list_is_kept(storage: Storage):
    session = storage.session("page")
    first, second = sent(storage, "1.dcm"), sent(storage, "2.dcm", folder="two")
    storage.take(session, [first, second])
    storage.take(session, [first])
    assert first.is_file()
    assert not second.exists()
    assert names(session) == ["1.dcm"]


def test_closing_a_page_deletes_what_belongs_to_it_alone(storage: Storage):
    # Both pages have sent the same file: the web server gives it one path.
    file = sent(storage, "anna.nii")
    one, two = storage.session("one"), storage.session("two")
    storage.take(one, [file])
    storage.take(two, [file])
    storage.forget("one")
    assert not one.folder.exists()
    assert file.is_file()
    assert names(two) == ["anna.nii"]
    sent(storage, "never used.nii", folder="stray")
    storage.forget("two")
    assert not list(storage.uploads.iterdir())
    assert not two.folder.exists()


def result(storage: Storage, session: Session, name: str = "report.html") -> str:
    folder = storage.new_results(session) / "anna"
    folder.mkdir()
    (folder / name).write_text("text")
    return session.token


def test_results_need_the_secret_of_their_page(storage: Storage):
    session, other = storage.session("page"), storage.session("other")
    token = result(storage, session)
    other_token = result(storage, other, "anomaly.nii.gz")
    assert storage.result_file(token, "anna", "report.html") is not None
    assert storage.result_file(other_token, "anna", "report.html") is None
    for wrong in ("", "x", token[:-1]):
        assert storage.result_file(wrong, "anna", "report.html") is None


@pytest.mark.parametrize(
    ("case", "name"),
    [("..", "secret"), ("anna", "../../secret"), ("anna", ".case_salt"), (".", "secret"), ("anna", "")],
)
def test_nothing_else_is_served(storage: Storage, case: str, name: str):
    session = storage.session("page")
    token = result(storage, session, ".case_salt")
    assert session.results is not None
    for folder in (session.results, session.folder):
        (folder / "secret").write_text("secret")
    assert storage.result_file(token, case, name) is None


def test_deleted_results_are_not_served(storage: Storage):
    session = storage.session("page")
    token = result(storage, session)
    storage.new_results(session)
    assert storage.result_file(token, "anna", "report.html") is None


def test_zip_of_a_case(storage: Storage):
    session = storage.session("page")
    result(storage, session)
    assert session.results is not None
    (session.results / ".case_salt").write_text("secret")
    (session.results / "anna" / "anomaly.nii.gz").write_bytes(b"map")
    storage.write_zip(session, "anna")
    with zipfile.ZipFile(session.results / "anna" / "results.zip") as archive:
        assert sorted(archive.namelist()) == ["anna/anomaly.nii.gz", "anna/report.html"]
        assert archive.read("anna/anomaly.nii.gz") == b"map"
