# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# Copyright (c) monai-zsad contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# &nbsp;&nbsp;&nbsp;&nbsp;http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# %% [markdown]
# # DICOM input, DICOM SEG output, and programs that read it
#
# Hospitals use DICOM. The input is a folder with a series. The output contains, in addition to map and report, DICOM
# objects that refer to the slices of the series: a segmentation (SEG) of the candidates, a structured report (SR),
# and a parametric map with the anomaly map. Every viewer or archive that supports these standards can show them.
#
# **For research only. Not a medical device, not for clinical use.** A candidate is a position to look at, not a
# finding. This is also true in a DICOM object: the objects state that an algorithm made them, and its name.

# %% [markdown]
# ## Setup environment

# %%
# !python -c "import monai_zsad" || pip install -q -e ..
# %matplotlib inline

# %% [markdown]
# ## Setup imports

# %%
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import highdicom
import matplotlib.pyplot as plt
import numpy as np
import pydicom
from matplotlib.patheffects import withStroke
from monai.bundle import ConfigWorkflow
from monai.config import print_config

from monai_zsad.data import find_studies
from monai_zsad.synthesis import phantom_head, write_dicom_series
from monai_zsad.workflow.bundles import find_bundle

logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
plt.rcParams["figure.dpi"] = 80
print_config()

# %% [markdown]
# ## Setup a folder

# %%
directory = os.environ.get("MONAI_DATA_DIRECTORY")
root = Path(directory or tempfile.mkdtemp()).resolve() / "dicom"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## A series
#
# A FLAIR-like phantom of a patient with a rotated head, with one MR image per slice. `find_studies` (or `python -m
# monai_zsad info FOLDER`) lists the scans of a folder, and the reason if something is left out.

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3

# %%
head = phantom_head(shape, spacing, seed=seed).turned((0.0, 0.0, 8.0))
series = write_dicom_series(head, "dicom/head")
for found in find_studies("dicom"):
    size = " x ".join(map(str, found.shape))
    print(f"{found.path}: {found.modality}, {found.description}, {size}, {found.files} files")

# %% [markdown]
# ## Screening
#
# ```bash
# python -m monai_zsad screen dicom -o results --anatomy brain --modality FLAIR --dicom seg,pm,sr
# ```
#
# A DICOM case is named by a salted hash, because folder names often contain the name of the patient. Only the DICOM
# objects contain a name, an id or a description from the headers.

# %%
bundle = find_bundle("tiny_screening")
workflow = ConfigWorkflow(
    config_file=str(bundle / "configs" / "inference.yaml"),
    workflow_type="infer",
    logging_file=False,
    bundle_root=str(bundle),
    dataset_dir="dicom",
    output_dir="results",
    overwrite=True,
    progress=False,
    anatomy="brain",
    modality="FLAIR",
    dicom=["seg", "pm", "sr"],
    max_candidates=5,
)
workflow.initialize()
workflow.run()
workflow.finalize()

(file,) = Path("results").glob("*/*_findings.json")
folder, case = file.parent, file.parent.name
for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size / 1000:8.1f} kB  {file.name.replace(case, '<case>')}")

# %% [markdown]
# ## Reading the segmentation
#
# Here, only highdicom (`segread`) and pydicom are used, as in any other program. Each segment is a candidate. Its
# frames refer to the slices by their UIDs, in the same frame of reference.

# %%
slices = sorted((pydicom.dcmread(file) for file in series.iterdir()), key=lambda ds: ds.InstanceNumber)
seg = highdicom.seg.segread(next(folder.glob("*_seg.dcm")))
first = slices[0]
print(
    f"same patient {seg.PatientID == first.PatientID}, same study {seg.StudyInstanceUID == first.StudyInstanceUID},",
    end=" ",
)
print(f"same frame of reference {seg.FrameOfReferenceUID == first.FrameOfReferenceUID}")
print(f"made by: {seg.Manufacturer}, {seg.ContentDescription if 'ContentDescription' in seg else ''}")
for number in seg.segment_numbers:
    description = seg.get_segment_description(number)
    kind = description.segmented_property_type.meaning
    print(f"segment {number}: {description.segment_label}, {kind}, {description.algorithm_type.value}")

# %% [markdown]
# The masks are read in the order of the slices, by their UIDs, and the scan from its pixels. Nothing is resampled.

# %%
uids = [ds.SOPInstanceUID for ds in slices]
masks = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
scan = np.stack([ds.pixel_array.astype(np.float32) for ds in slices])
print(f"scan {scan.shape}, masks {masks.shape} (slices, rows, columns, segments)")

findings = json.loads((folder / f"{case}_findings.json").read_text())
for number, found in zip(seg.segment_numbers, findings["candidates"], strict=True):
    print(f"segment {number}: {int(masks[..., number - 1].sum())} voxels, in findings.json {found['voxels']}")
    assert int(masks[..., number - 1].sum()) == found["voxels"]

# %% [markdown]
# The orientation letters come from `ImageOrientationPatient` in the header. The window also comes from the header.
# The candidates are outlined in yellow; number 1 is the most suspicious.


# %%
def letters(dataset):
    """Letters of the picture's left, right, top and bottom, by the largest component of rows and columns (LPS)."""
    along, down = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
    names = [("R", "L"), ("A", "P"), ("I", "S")]
    pairs = [names[int(np.argmax(abs(axis)))][:: 1 if axis[np.argmax(abs(axis))] > 0 else -1] for axis in (along, down)]
    return (*pairs[0], *pairs[1])


# Dark around the letters, as the head's bright edge may lie below them.
edge = withStroke(linewidth=2.5, foreground="black")
letter_style = {"color": "deepskyblue", "ha": "center", "va": "center", "path_effects": [edge]}

level, width = float(first.WindowCenter), float(first.WindowWidth)
columns, rows = first.PixelSpacing[1], first.PixelSpacing[0]
areas = masks.sum((1, 2))  # of each segment in each slice
chosen = list(dict.fromkeys(int(index) for index in areas.argmax(0)))[:4]  # most suspicious first

figure, axes = plt.subplots(1, len(chosen), figsize=(2.7 * len(chosen) + 0.9, 3.3), squeeze=False, layout="constrained")
for place, index in zip(axes[0], chosen, strict=True):
    picture = place.imshow(
        scan[index], cmap="gray", vmin=level - width / 2, vmax=level + width / 2, aspect=rows / columns
    )
    for number in range(masks.shape[-1]):
        if masks[index, ..., number].any():
            place.contour(masks[index, ..., number], levels=[0.5], colors=["yellow"], linewidths=1)
            y, x = np.argwhere(masks[index, ..., number])[0]
            place.text(x + 4, y - 3, str(number + 1), color="yellow", fontsize=9)
    left, right, top, bottom = letters(slices[index])
    for letter, (x, y) in zip(
        (left, right, top, bottom), ((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05)), strict=True
    ):
        place.text(x, y, letter, transform=place.transAxes, **letter_style)
    height = float(slices[index].ImagePositionPatient[2])
    place.set_title(f"instance {slices[index].InstanceNumber}   z {height:.1f} mm (LPS)", fontsize=9)
    place.set(xticks=[], yticks=[])
figure.colorbar(picture, ax=axes[0], label="stored value (arbitrary units)", shrink=0.85)
figure.suptitle(f"DICOM SEG over its series   window: level {level:.0f}, width {width:.0f}", fontsize=10)
plt.show()

# %% [markdown]
# ## The parametric map
#
# The anomaly map as a DICOM object. It contains a value for each voxel and the meaning of the values. The colours
# show values from 0 to 1.

# %%
pm = pydicom.dcmread(next(folder.glob("*_pm.dcm")))
values = np.frombuffer(pm[next(t for t in ("FloatPixelData", "DoubleFloatPixelData") if t in pm)].value, np.float32)
heat = values.reshape(-1, pm.Rows, pm.Columns)
frame_z = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in pm.PerFrameFunctionalGroupsSequence]
scan_z = [float(ds.ImagePositionPatient[2]) for ds in slices]
index = chosen[int(np.argmax([heat[int(np.argmin(np.abs(np.subtract(frame_z, scan_z[i]))))].max() for i in chosen]))]
frame = int(np.argmin(np.abs(np.subtract(frame_z, scan_z[index]))))

figure, axes = plt.subplots(figsize=(4.4, 3.5), layout="constrained")
axes.imshow(scan[index], cmap="gray", vmin=level - width / 2, vmax=level + width / 2)
overlay = axes.imshow(heat[frame], cmap="inferno", vmin=0, vmax=1, alpha=np.clip(heat[frame] * 1.5, 0, 0.8))
for letter, (x, y) in zip(letters(slices[index]), ((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05)), strict=True):
    axes.text(x, y, letter, transform=axes.transAxes, **letter_style)
axes.set(xticks=[], yticks=[])
axes.set_title(f"instance {slices[index].InstanceNumber}   window: level {level:.0f}, width {width:.0f}", fontsize=9)
figure.colorbar(overlay, label="anomaly map (no unit)")
plt.show()
print(f"{pm.NumberOfFrames} frames, {pm.ContentLabel}: values {heat.min():.3f} to {heat.max():.3f}")

# %% [markdown]
# ## The structured report
#
# Measurement groups (TID 1500) contain the volume and the scores of each candidate, and refer to its segment.

# %%
report = pydicom.dcmread(next(folder.glob("*_sr.dcm")))


def lines(items, depth=0):
    """Names and values of a report's content, indented."""
    for item in items:
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else "-"
        value = ""
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            value = f"{measured.NumericValue} {measured.MeasurementUnitsCodeSequence[0].CodeMeaning}"
        elif item.ValueType in ("TEXT", "CODE"):
            value = item.TextValue if item.ValueType == "TEXT" else item.ConceptCodeSequence[0].CodeMeaning
        if item.ValueType in ("NUM", "TEXT", "CODE", "CONTAINER"):
            yield "  " * depth + (f"{name}: {value}" if value else name)
        yield from lines(item.get("ContentSequence", []), depth + 1)


text = list(lines(report.ContentSequence))
print("\n".join(line[:110] for line in text[:45]))
if len(text) > 45:
    print(f"... {len(text) - 45} more lines")

# %% [markdown]
# ## Other programs: Orthanc, OHIF, Slicer, MONAI Label
#
# This notebook does not need them, so the commands are shown but not run.
#
# **[Orthanc](https://www.orthanc-server.com)** (Debian: `apt install orthanc orthanc-dicomweb`) is a small DICOM
# archive. Store the series and the objects in it. Every viewer that is connected to it shows them; OHIF overlays the
# SEG on the series automatically:
#
# ```bash
# for file in dicom/head/*.dcm results/*/*_seg.dcm results/*/*_sr.dcm; do
#     curl --silent --fail --data-binary "@$file" http://localhost:8042/instances > /dev/null
# done
# ```
#
# With DICOMweb, scans are read directly from a server. `dicomweb_client.DICOMwebClient(url).store_instances([...])`
# sends the objects back:
#
# ```bash
# python -m monai_zsad screen "http://localhost:8042/dicom-web/series?Modality=MR&StudyDate=20000101" -o results
# ```
#
# **[3D Slicer](https://www.slicer.org)**: load the series with the DICOM module; the extension
# *QuantitativeReporting* opens SEG and SR. Without DICOM, `python -m monai_zsad slicer results/<case>` writes a scene
# that you can drag into Slicer. It contains the heat map in colour and, if you screened with `--set seg_nrrd=true`,
# the candidates as segments.
#
# **[MONAI Label](https://monai.io/label.html)** shows the candidates in Slicer and OHIF, where you can correct them,
# and presents the most suspicious studies first. It needs its own environment, see
# `monai_zsad/integrations/monailabel/README.md`:
#
# ```bash
# label-env/bin/python -m monai_zsad label-server --studies FOLDER
# ```
#
# For every program that reads the objects, check once with a phantom like this one that they are at the correct
# position.

# %%
distance = np.linalg.norm(np.subtract(findings["candidates"][0]["peak_ras_mm"], head.center_mm))
print(f"first candidate: {distance:.0f} mm from the centre of the phantom's lesion (radius {head.radius_mm:.0f} mm)")

# %% [markdown]
# ## Cleanup

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
