"""``monai_zsad.bundles`` and the commands ``bundle``: names, folders, copies."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_zsad import bundles
from monai_zsad.cli.main import app
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.workflow.bundles import find_bundle
from tests.bundles.runs import ALL_BUNDLES

runner = CliRunner()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_bundle_of_the_tree_is_found():
    assert bundles.names() == [folder.name for folder in ALL_BUNDLES]
    for folder in ALL_BUNDLES:
        assert bundles.path(folder.name) == folder.resolve()
    assert bundles.path("tiny_screening").is_absolute()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path):
    for name in ("cran", "../bundles/crane", ""):
        with pytest.raises(ConfigurationError, match=r"aaclip, .*, crane, crane_plus"):
            bundles.path(name)
    with pytest.raises(ConfigurationError, match="aaclip"):
        bundles.copy("cran", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_installed_folder_comes_before_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "own" / "configs" / "inference.yaml"
    config.parent.mkdir(parents=True)
    config.touch()
    monkeypatch.setattr(bundles, "_HOMES", (tmp_path, *bundles._HOMES))
    assert bundles.names() == ["own"]
    monkeypatch.setattr(bundles, "_HOMES", (tmp_path / "nothing",))
    with pytest.raises(ConfigurationError, match="install"):
        bundles.path("own")


def test_a_copy_is_complete_and_replaces_nothing(tmp_path: Path):
    copied = bundles.copy("crane_plus", tmp_path / "new" / "folder")
    assert copied == tmp_path / "new" / "folder" / "crane_plus"
    original = files(bundles.path("crane_plus"))
    assert files(copied) == {name: content for name, content in original.items() if not name.startswith("eval/")}
    (copied / "LICENSE").write_text("changed")
    with pytest.raises(OutputError, match="crane_plus"):
        bundles.copy("crane_plus", tmp_path / "new" / "folder")
    assert (copied / "LICENSE").read_text() == "changed"
    assert [path.name for path in copied.parent.iterdir()] == ["crane_plus"]


def test_results_of_runs_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = bundles.copy("anoclip", tmp_path / "home")
    (source / "eval" / "anna").mkdir(parents=True)
    (source / "eval" / "anna" / "scores.json").touch()
    monkeypatch.setattr(bundles, "_HOMES", (tmp_path / "home",))
    assert not (bundles.copy("anoclip", tmp_path / "copy") / "eval").exists()


def test_a_copy_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        bundles.copy("crane", tmp_path / "file" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_commands(tmp_path: Path):
    assert runner.invoke(app, ["bundle", "list"]).output.split() == bundles.names()
    assert runner.invoke(app, ["bundle", "path", "crane"]).output == f"{bundles.path('crane')}\n"
    done = runner.invoke(app, ["bundle", "copy", "crane", str(tmp_path)])
    assert done.output == f"{tmp_path / 'crane'}\n"
    assert isinstance(runner.invoke(app, ["bundle", "copy", "crane", str(tmp_path)]).exception, OutputError)


def test_a_name_stands_for_the_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundle("crane") == bundles.path("crane")
    own = bundles.copy("crane", tmp_path / "bundles")
    assert find_bundle("crane").resolve() == own.resolve()
    assert find_bundle(own) == own
    with pytest.raises(ConfigurationError, match="aaclip"):
        find_bundle("elsewhere/crane")
