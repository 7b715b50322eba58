"""The scene for 3D Slicer, and what is said to a Slicer: a server here takes the place of its web server."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import nibabel
import numpy as np
import pytest

from monai_zsad.data import ScanReader, find_scans
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.integrations.slicer import send_case, write_colour_table, write_scene
from monai_zsad.writers import save_segmentation
from tests.data.samples import write_nifti, write_series


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "anna"
    write_nifti(folder / "anomaly.nii.gz")
    save_segmentation(np.zeros((2, 3, 4), np.uint8), [], folder / "candidates.seg.nrrd", np.eye(4))
    return folder


def test_every_colour_is_there_and_hot_is_opaque(tmp_path: Path) -> None:
    table = write_colour_table(tmp_path / "heat.ctbl")
    rows = [line.split() for line in table.read_text().splitlines() if not line.startswith("#")]
    assert [int(row[0]) for row in rows] == list(range(256))
    colours = np.array([row[2:] for row in rows], int)
    assert colours.min() >= 0
    assert colours.max() <= 255
    assert (np.diff(colours[:, 3]) >= 0).all()
    assert colours[0, 3] == 0
    assert colours[-1, 3] == 255
    with pytest.raises(ConfigurationError, match=r"\.ctbl"):
        write_colour_table(tmp_path / "heat.txt")


def test_every_reference_of_the_scene_is_met(case: Path, tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "anna.nii.gz")
    scene = ElementTree.parse(write_scene(case, tmp_path / "scans" / "anna.nii.gz")).getroot()
    ids = [node.get("id") for node in scene]
    assert len(ids) == len(set(ids))
    known = {*ids, "vtkMRMLColorTableNodeGrey"}
    references = [part.partition(":")[2] for node in scene for part in node.get("references", "").split(";") if part]
    assert references
    assert set(references) <= known
    files = [node.get("fileName") for node in scene if node.get("fileName")]
    assert all((case / str(file)).is_file() for file in files)
    assert [file for file in files if not Path(str(file)).is_absolute()] == [
        "heat.ctbl",
        "anomaly.nii.gz",
        "candidates.seg.nrrd",
    ]
    (heat,) = (node for node in scene.iter("VolumeDisplay") if node.get("autoWindowLevel") == "0")
    assert (heat.get("window"), heat.get("level")) == ("1", "0.5")


def test_a_scene_may_lack_scan_and_segments(case: Path) -> None:
    (case / "candidates.seg.nrrd").unlink()
    scene = ElementTree.parse(write_scene(case)).getroot()
    assert scene.find("Segmentation") is None
    assert len(scene.findall("Volume")) == 1


def test_a_dicom_folder_is_shown_too(case: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "series", 6)
    scene = ElementTree.parse(write_scene(case, tmp_path / "series")).getroot()
    files = [node.get("fileName") for node in scene.iter("VolumeArchetypeStorage")]
    # The copy lies beside the scene, so that the folder can be moved.
    assert files == ["anomaly.nii.gz", "scan.nii.gz"]
    reader = ScanReader()
    (record,) = find_scans(tmp_path / "series")
    values, meta = reader.get_data(reader.read(record["image"]))
    copied = nibabel.load(case / "scan.nii.gz")
    np.testing.assert_array_equal(copied.get_fdata(), values)
    np.testing.assert_allclose(copied.affine, meta["affine"], atol=1e-5)


def test_one_of_several_series_is_chosen(case: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "study" / "1", 6, number=1)
    write_series(tmp_path / "study" / "2", 6, number=2)
    with pytest.raises(InputError, match=r"holds 2 scans .* --series"):
        write_scene(case, tmp_path / "study")
    write_scene(case, tmp_path / "study", series="2")
    assert (case / "scan.nii.gz").is_file()


def test_missing_files_are_named(case: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.nii"):
        write_scene(case, tmp_path / "nothing.nii")
    with pytest.raises(InputError, match=r"results.anomaly\.nii\.gz"):
        write_scene(case.parent)


class _Slicer(BaseHTTPRequestHandler):
    """Answers as the Slicer API does, and keeps what it was asked to load."""

    loaded: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self._answer({"applicationName": "Slicer"})

    def do_POST(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        file = Path(query["localfile"])
        if not file.is_file():
            self._answer({"message": "Failed to load"}, 500)
            return
        self.loaded.append(query)
        self._answer({"success": True, "loadedNodeIDs": [f"node{len(self.loaded)}"]})

    def _answer(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def slicer_port() -> Iterator[int]:
    _Slicer.loaded = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slicer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_running_slicer_gets_table_map_and_segments(
    case: Path, slicer_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("slicerio")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert send_case(case, port=slicer_port) == ["node1", "node2", "node3"]
    table, heat, segments = _Slicer.loaded
    assert (table["filetype"], Path(table["localfile"]).name) == ("ColorTableFile", "heat.ctbl")
    assert (heat["filetype"], heat["colorNodeID"], heat["name"]) == ("VolumeFile", "node1", "anna anomaly")
    assert (segments["filetype"], Path(segments["localfile"]).name) == ("SegmentationFile", "candidates.seg.nrrd")
    assert segments["name"] == "anna candidates"


def test_without_a_slicer_the_remedy_is_named(case: Path) -> None:
    pytest.importorskip("slicerio")
    with pytest.raises(InputError, match="no 3D Slicer answers on port 1: open its module Web Server"):
        send_case(case, port=1)
