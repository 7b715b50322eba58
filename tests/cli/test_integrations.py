"""``label-server`` without MONAI Label, and the environment that it makes; tests/integration/ runs the server."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_zsad.cli.main import app
from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations.monailabel.compatibility import ORIGINS_VARIABLE, alias_pydicom, server_environment


@pytest.mark.skipif(find_spec("monailabel") is not None, reason="MONAI Label is installed here")
def test_the_environment_that_is_needed_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["label-server", "--studies", str(tmp_path)])
    assert isinstance(result.exception, ConfigurationError)
    assert "pip install 'monai-zsad[label]'" in str(result.exception)


def test_what_the_user_has_set_is_kept(tmp_path: Path) -> None:
    given = {"MONAI_LABEL_DICOMWEB_READ_TIMEOUT": "5", "PATH": "/bin", "PYTHONPATH": "/mine"}
    found = server_environment(given, tmp_path, tmp_path / "t", port=81, origins=["http://ohif:3000"], scores=False)
    assert found["MONAI_LABEL_DICOMWEB_READ_TIMEOUT"] == "5"
    assert found["PATH"].split(":") == [str(Path(sys.executable).parent), "/bin"]
    assert found["PYTHONPATH"].split(":") == [str(tmp_path / "startup"), "/mine"]
    assert json.loads(found[ORIGINS_VARIABLE]) == ["http://127.0.0.1:81", "http://localhost:81", "http://ohif:3000"]
    assert found["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"
    assert "MONAI_LABEL_DICOMWEB_SEARCH_FILTER" not in found
    assert (found["MONAI_ZSAD_OFFLINE"], found["HF_HUB_OFFLINE"]) == ("1", "1")


def test_the_lost_module_of_pydicom_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydicom._storage_sopclass_uids", raising=False)
    alias_pydicom()
    lost = sys.modules["pydicom._storage_sopclass_uids"]
    assert lost.SegmentationStorage == "1.2.840.10008.5.1.4.1.1.66.4"
    monkeypatch.delitem(sys.modules, "pydicom._storage_sopclass_uids")
