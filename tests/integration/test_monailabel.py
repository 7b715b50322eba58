"""A real MONAI Label server over a folder of volumes, driven by MONAI Label's own client."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import itk
import nibabel
import numpy as np
import pytest
from nibabel.processing import resample_to_output

from monai_zsad.integrations.monailabel.label_view import write_label_view
from monai_zsad.integrations.monailabel.screener import screen_image
from monai_zsad.integrations.monailabel.served import ServedBundle
from monai_zsad.workflow.bundles import find_bundle
from tests.integration.label_servers import LabelServer, label_python, running_label_server

pytestmark = pytest.mark.slow

MODEL = "tiny_screening"
SCANS = {"flair": "patient07_FLAIR", "t2": "patient19_T2"}
# As 3D Slicer's plugin asks.
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}


@pytest.fixture(scope="module")
def studies(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real scans with large voxels, and a file that is not a scan."""
    folder = tmp_path_factory.mktemp("studies")
    for name, source in SCANS.items():
        coarse = resample_to_output(nibabel.load(shared / "data" / "ms3d" / f"{source}.nii.gz"), (4, 4, 12), order=1)
        values = np.asarray(coarse.dataobj).clip(0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, coarse.affine), folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes((folder / "t2.nii.gz").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory):
    with running_label_server(studies, tmp_path_factory.mktemp("label"), ["--conf", "at_once=4"]) as running:
        yield running


def read_nrrd(path: str) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z) and the affine in RAS."""
    image = itk.imread(path)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return itk.array_from_image(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_info_shows_models_options_and_order(server: LabelServer) -> None:
    info = server.client.info()
    models = info["models"]
    assert models[MODEL]["type"] == "segmentation"
    assert models[MODEL]["labels"] == {"low suspicion": 1, "moderate suspicion": 2, "high suspicion": 3}
    assert models[f"{MODEL}_heatmap"]["type"] not in ("segmentation", "detection")
    assert {"prompt_set", "anatomy", "plane", "candidate_threshold", "min_volume_mm3"} <= models[MODEL]["config"].keys()
    assert next(iter(info["strategies"])) == "most_anomalous_first"
    assert info["datastore"]["total"] == 3


def test_studies_come_in_the_order_of_suspicion(server: LabelServer) -> None:
    server.wait_for_scores()
    shown = [server.client.next_sample("most_anomalous_first", {}) for _ in range(3)]
    assert {sample["id"] for sample in shown[:2]} == set(SCANS)
    assert shown[0]["volume_score"] > shown[1]["volume_score"]
    assert all(sample["scored"] == 3 for sample in shown)
    assert shown[2]["id"] == "broken"
    assert shown[2]["volume_score"] is None
    assert "broken.nii.gz" in shown[2]["reason"]
    for sample in shown[:2]:
        _, params = server.client.infer(MODEL, sample["id"], {})
        assert params["volume_score"] == pytest.approx(sample["volume_score"], abs=1e-6)


def test_levels_and_heat_map_are_those_of_the_bundle(server: LabelServer, studies: Path) -> None:
    scan = studies / "flair.nii.gz"
    expected = screen_image(ServedBundle(find_bundle(MODEL)), scan)
    file, params = server.client.infer(MODEL, "flair", {**SLICER, "label_values": "fixed"})
    labels, affine = read_nrrd(file)
    np.testing.assert_array_equal(labels, expected.levels()[0])
    assert labels.dtype == np.uint8
    assert labels.any()
    np.testing.assert_allclose(affine, nibabel.load(scan).affine, atol=1e-5)
    assert [found["centroid_ras_mm"] for found in params["candidates"]] == [
        pytest.approx(found.centroid_ras_mm, abs=1e-3) for found in expected.candidates
    ]
    assert params["model"]["name"] == MODEL
    assert params["prompt_set"] == "screening"

    file, _ = server.client.infer(f"{MODEL}_heatmap", "flair", SLICER)
    heat, affine = read_nrrd(file)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, expected.heat_map, atol=1e-4)
    np.testing.assert_allclose(affine, expected.affine, atol=1e-5)


def test_slicer_gets_levels_without_gaps(server: LabelServer) -> None:
    # No candidate is of the middle level.
    params = {**SLICER, "level_moderate": 0.7, "level_high": 0.7}
    file, answer = server.client.infer(MODEL, "flair", params)
    labels, _ = read_nrrd(file)
    assert set(np.unique(labels)) - {0} == set(answer["label_names"].values())
    assert answer["label_names"] == {"low suspicion": 1, "high suspicion": 2}
    file, answer = server.client.infer(MODEL, "flair", {**params, "result_dtype": "uint16"})
    assert set(np.unique(read_nrrd(file)[0])) == {0, 1, 3}


def test_options_hold_for_one_request(server: LabelServer) -> None:
    def run(**options: object) -> dict:
        return server.client.infer(MODEL, "t2", {**SLICER, **options})[1]

    usual = run()
    strict = run(candidate_threshold="0.95")
    assert 0 < len(strict["candidates"]) < len(usual["candidates"])
    assert all(found["peak_score"] > 0.95 for found in strict["candidates"])
    large = run(min_volume_mm3="2000")
    assert all(found["volume_mm3"] >= 2000 for found in large["candidates"])
    words = run(anatomy="brain", modality="t2")
    assert words["model"]["prompts"]["sha256"] != usual["model"]["prompts"]["sha256"]
    assert words["volume_score"] != usual["volume_score"]
    assert run(plane="coronal")["volume_score"] != usual["volume_score"]
    again = run()
    assert again["candidates"] == usual["candidates"]
    assert again["volume_score"] == usual["volume_score"]


def test_four_requests_at_once_agree_with_one_alone(server: LabelServer) -> None:
    requests = [("flair", {}), ("t2", {}), ("flair", {"anatomy": "brain"}), ("t2", {"plane": "sagittal"})]

    def run(request: tuple[str, dict]) -> tuple[np.ndarray, list]:
        file, params = server.client.infer(MODEL, request[0], {**SLICER, **request[1]})
        return read_nrrd(file)[0], params["candidates"]

    alone = [run(request) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, requests))
    for (labels, candidates), (other_labels, other_candidates) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        assert candidates == other_candidates


def test_an_image_may_be_sent_along(server: LabelServer, studies: Path) -> None:
    _, sent = server.client.infer(MODEL, "", SLICER, file=str(studies / "t2.nii.gz"))
    _, stored = server.client.infer(MODEL, "t2", SLICER)
    assert sent["candidates"] == stored["candidates"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/infer/nothing?image=t2", "tiny_screening"),
        (f"/infer/{MODEL}?image=nobody", "image 'nobody'"),
        (f"/infer/{MODEL}?image=/etc/hostname", "image '/etc/hostname'"),
        (f"/infer/{MODEL}?image=broken", "broken.nii.gz"),
        ("/activelearning/nothing", "no such strategy 'nothing'"),
    ],
)
def test_errors_are_json_with_a_sentence(server: LabelServer, path: str, said: str) -> None:
    status, answer = server.request(path, {}, "POST")
    assert status == 400
    assert said in answer["detail"]
    assert "Traceback" not in answer["detail"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"plane": "slanted"}, "plane='slanted'"),
        ({"window": "$__import__('os').getcwd()"}, "window="),
        ({"candidate_threshold": "much"}, "candidate_threshold='much'"),
        ({"result_extension": ".png"}, "result_extension='.png'"),
    ],
)
def test_wrong_options_are_named(server: LabelServer, params: dict, said: str) -> None:
    body = urlencode({"params": json.dumps(params)}).encode()
    status, answer = server.request(f"/infer/{MODEL}?image=t2", body, "POST")
    assert status == 400
    assert said in answer["detail"]
    with pytest.raises(Exception, match="Status: 400"):
        server.client.infer(MODEL, "t2", params)


def test_a_client_that_leaves_does_no_harm(server: LabelServer) -> None:
    address = urlsplit(server.url)
    assert address.hostname is not None
    for _ in range(2):
        with socket.create_connection((address.hostname, address.port or 0)) as connection:
            connection.sendall(
                f"POST /infer/{MODEL}?image=t2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
    assert server.client.infer(MODEL, "t2", SLICER)[1]["candidates"]


def test_batch_infer_keeps_labels_and_names_what_failed(server: LabelServer) -> None:
    status, answer = server.request(f"/batch/infer/{MODEL}?images=all&run_sync=true", {"label_tag": "screened"}, "POST")
    assert status == 200
    assert set(answer) == {"broken", *SCANS}
    assert "broken.nii.gz" in answer["broken"]["error"]
    assert answer["t2"]["params"]["candidates"]
    assert server.client.info()["datastore"]["label_tags"] == {"screened": 2}
    file = server.client.download_label("t2", "screened")
    assert set(np.unique(nibabel.load(file).get_fdata())) <= {0, 1, 2, 3}


def test_a_saved_label_takes_the_study_off_the_list(server: LabelServer) -> None:
    file, params = server.client.infer(MODEL, "t2", SLICER)
    names = [{"name": name, "idx": value} for name, value in params["label_names"].items()]
    saved = server.client.save_label("t2", file, "final", {"label_info": names})
    assert saved["label"] == "t2"
    stored, _ = read_nrrd(server.client.download_label("t2", "final"))
    np.testing.assert_array_equal(stored, read_nrrd(file)[0])
    assert server.client.info()["datastore"]["completed"] == 1
    seen = {server.client.next_sample("most_anomalous_first", {})["id"] for _ in range(3)}
    assert seen == {"flair", "broken"}


def test_monailabel_s_own_app_serves_a_copy_of_the_bundle(server: LabelServer, studies: Path, tmp_path: Path) -> None:
    code = "import sys; print(sys.prefix)"
    prefix = subprocess.run([label_python(), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    app = tmp_path / "monaibundle"
    shutil.copytree(Path(prefix) / "monailabel" / "sample-apps" / "monaibundle", app)
    write_label_view(find_bundle(MODEL), app / "model" / "screening")
    options = ["--app", str(app), "--no-scores"]
    for pair in ("models=screening", "zoo_source=ngc", "sam2=false", "skip_trainers=true"):
        options += ["--conf", pair]
    with running_label_server(studies, tmp_path, options) as other:
        assert other.client.info()["models"]["screening"]["type"] == "segmentation"
        file, params = other.client.infer("screening", "t2", SLICER)
    ours, usual = server.client.infer(MODEL, "t2", {**SLICER, "label_values": "fixed"})
    labels, affine = read_nrrd(file)
    expected, expected_affine = read_nrrd(ours)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-5)
    assert params["volume_score"] == pytest.approx(usual["volume_score"], abs=1e-3)
