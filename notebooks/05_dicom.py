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
# # DICOM input, DICOM output, and programs that read it
#
# The input is a folder with a DICOM series. The output has, beside the map and the report, DICOM objects that refer to
# the slices of the series: a segmentation (SEG) of the candidates, a parametric map (PM) with the anomaly map, and a
# structured report (SR). Viewers and archives that support these standards can show them.
#
# **For research only. Not a medical device, not for clinical use.** A candidate is a position to look at, not a
# finding. This is also true in a DICOM object: the objects say that an algorithm made them, and name it.

# %% [markdown]
# ## Setup

# %%
# !python -c "import monai_zsad" || pip install -q git+https://github.com/monai-zsad/monai-zsad.git

# %%
import os
import shutil
import tempfile
from pathlib import Path

import highdicom
import matplotlib.pyplot as plt
import numpy as np
import pydicom

from monai_zsad import screen
from monai_zsad.data import find_studies
from monai_zsad.synthesis import phantom_head, write_dicom_series
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, grey_range, make_view, slice_label

plt.rcParams["figure.dpi"] = 120

root = Path(os.environ.get("MONAI_DATA_DIRECTORY") or tempfile.mkdtemp()).resolve() / "dicom"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## A series
#
# A synthetic patient with a rotated head: one MR image per slice. `find_studies` (or `python -m monai_zsad info
# FOLDER`) lists the scans of a folder, and says why something is left out.

# %% tags=["parameters"]
shape = (160, 160, 36)  # voxels along X, Y, Z
spacing = (1.4, 1.4, 4.5)  # mm
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
# The folder of the result has a hash as its name, because names of DICOM folders often contain the name of the patient.
# Only the DICOM objects contain a name, an id or a description from the headers.

# %%
result = screen(
    "dicom", "results", anatomy="brain", modality="FLAIR", dicom=["seg", "pm", "sr"], max_candidates=5, progress=False
)
for kind, file in result.files.items():
    print(f"{file.stat().st_size / 1000:8.1f} kB  {file.name:18s} {kind}")

# %% [markdown]
# ## Reading the segmentation
#
# From here on, only pydicom and highdicom read the objects, as another program would. Each segment is a candidate.

# %%
slices = [pydicom.dcmread(file) for file in series.iterdir()]
seg = highdicom.seg.segread(result.files["dicom_segmentation"])
print("same patient:           ", seg.PatientID == slices[0].PatientID)
print("same study:             ", seg.StudyInstanceUID == slices[0].StudyInstanceUID)
print("same frame of reference:", seg.FrameOfReferenceUID == slices[0].FrameOfReferenceUID)
print("made by:                ", seg.Manufacturer)
for number in seg.segment_numbers:
    segment = seg.get_segment_description(number)
    print(f"segment {number}: {segment.segment_label}, {segment.segmented_property_type.meaning}")

# %% [markdown]
# highdicom places scan and segmentation in space by their headers. We only change from the patient coordinates of DICOM
# (LPS) to those of the drawing (RAS). The candidates are outlined; number 1 is the most suspicious.

# %%
scan = highdicom.get_volume_from_series(slices)
masks = seg.get_volume(combine_segments=True).match_geometry(scan)
to_ras = np.diag([-1, -1, 1, 1]) @ scan.affine
for number, found in enumerate(result.findings["candidates"], 1):
    voxels = int((masks.array == number).sum())
    print(f"segment {number}: {voxels} voxels, in findings.json {found['voxels']}")
    assert voxels == found["voxels"]

# %%
view = make_view(scan.array.astype(np.float32), masks.array, to_ras, "axial", masks.array)
grey, _ = grey_range(view.scan)
areas = (view.labels > 0).sum((0, 1))
chosen = sorted(np.argsort(areas)[-3:])
figure, axes = plt.subplots(1, len(chosen), figsize=(3.2 * len(chosen), 4), facecolor="#101216", layout="constrained")
for place, index in zip(axes, chosen, strict=True):
    draw_slice(place, view, index, grey)
    draw_contours(place, view, index, dict.fromkeys(range(1, 6), "yellow"))
    place.set_title(slice_label(view, index).split("   ")[1], color="white", fontsize=11)
title = f"DICOM SEG over its series\ngrey values {grey[0]:.0f} to {grey[1]:.0f} (arbitrary units of MR)"
figure.suptitle(title, color="white", fontsize=12)
plt.show()

# %% [markdown]
# ## The parametric map
#
# The anomaly map as a DICOM object: a value between 0 and 1 for each voxel, and what the values mean.

# %%
parametric = highdicom.imread(result.files["dicom_parametric_map"])
heat = parametric.get_volume().match_geometry(scan)
print(f"{parametric.ContentLabel}: {heat.spatial_shape}, values {heat.array.min():.3f} to {heat.array.max():.3f}")

own = make_view(scan.array.astype(np.float32), heat.array, to_ras, "axial")
figure, axes = plt.subplots(figsize=(5.4, 4.6), facecolor="#101216", layout="constrained")
index = int(own.heat.max((0, 1)).argmax())
draw_slice(axes, own, index, grey, (0, 1))
axes.set_title("DICOM parametric map, most suspicious slice", color="white", fontsize=12)
bar = figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, 1), "inferno"), ax=axes)
bar.set_label("anomaly map (no unit)", color="white")
bar.ax.tick_params(colors="white")
plt.show()

# %% [markdown]
# ## The structured report
#
# It has the position, the volume and the scores of each candidate, and refers to its segment (template TID 1500).

# %%
report = pydicom.dcmread(result.files["dicom_report"])
print(f"{report.ConceptNameCodeSequence[0].CodeMeaning}; {report.CompletionFlag}, {report.VerificationFlag}")


def measurements(items):
    """Names, values and units of all measurements in the content of a report."""
    for item in items:
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeMeaning
            yield f"  {item.ConceptNameCodeSequence[0].CodeMeaning}: {value.NumericValue} {unit}"
        yield from measurements(item.get("ContentSequence", []))


print("\n".join(list(measurements(report.ContentSequence))[:16]))

# %% [markdown]
# ## Other programs: Orthanc, OHIF, Slicer, MONAI Label
#
# This notebook does not need them, so the commands are shown but not run.
#
# **[Orthanc](https://www.orthanc-server.com)** (Debian: `apt install orthanc orthanc-dicomweb`) is a small DICOM
# archive. Store the series and the objects in it, and every viewer that is connected to it shows them:
#
# ```bash
# for file in dicom/head/*.dcm results/*/seg.dcm results/*/sr.dcm; do
#     curl --silent --fail --data-binary "@$file" http://localhost:8042/instances > /dev/null
# done
# ```
#
# With DICOMweb, scans are read directly from a server:
#
# ```bash
# python -m monai_zsad screen "http://localhost:8042/dicom-web/series?Modality=MR&StudyDate=20000101" -o results
# ```
#
# **[3D Slicer](https://www.slicer.org)**: load the series with the DICOM module; the extension
# *QuantitativeReporting* opens SEG and SR. Without DICOM, `python -m monai_zsad slicer results/<case>` writes a scene
# that you can drag into Slicer.
#
# **[MONAI Label](https://monai.io/label.html)** shows the candidates in Slicer and OHIF, where you can correct them.
# It needs its own environment, see `monai_zsad/integrations/monailabel/README.md`.
#
# For every program that reads the objects, check once with a synthetic scan like this one that they are at the correct
# position.
#
# ## Cleanup

# %%
os.chdir(root.parents[1])
if not os.environ.get("MONAI_DATA_DIRECTORY"):
    shutil.rmtree(root.parent)

# %% [markdown]
# ## Versions and licence
#
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

# %%
from monai.config import print_config

print_config()
