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
# # DICOM in, DICOM SEG out, and who reads it
#
# Hospitals speak DICOM. A series goes in as it lies in a folder; beside map and report come DICOM objects that refer to
# the series' own slices: a segmentation (SEG) of the candidates, a structured report (SR), a parametric map of the
# anomaly map. Any viewer or archive that knows these standards can show them.
#
# **For research only. Not a medical device, not for clinical use.** A candidate is a place to look at, not a finding,
# also when it stands in a DICOM object: the objects say that an algorithm made them, and which.

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
# A FLAIR-like phantom of a patient who lay turned in the scanner, as one MR image for each slice. `find_studies` (or
# `python -m monai_zsad info FOLDER`) tells what lies in a folder, and why something would be left out.

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
# A case from DICOM is named by a salted hash, as folders often bear the patient's name. Nothing but the DICOM objects
# carries a name, an id or a description from the headers.

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
# ## Reading the segmentation back
#
# As a program that knows nothing of this package would: with highdicom (`segread`) and pydicom. Each segment is a
# candidate; its frames refer to the slices by their UIDs, in the same frame of reference.

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
# The masks in the order of the slices, by the slices' UIDs, and the scan from its pixels: nothing was resampled.

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
# Orientation letters come from the header, `ImageOrientationPatient`. The window is that of the header, too; yellow
# outlines are the candidates, numbered by suspicion.


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
# The anomaly map as a DICOM object, with a value for each voxel and what the values mean. Colour from 0 to 1.

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
# TID 1500 measurement groups: for each candidate its volume and scores, with a reference to its segment.

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
# ## Going on: Orthanc, OHIF, Slicer, MONAI Label
#
# None of these is needed here, so the commands are shown and not run.
#
# **[Orthanc](https://www.orthanc-server.com)** (Debian: `apt install orthanc orthanc-dicomweb`) is a small DICOM
# archive. Store series and objects in it, and each viewer that is connected to it shows them; OHIF lays the SEG over
# the series by itself:
#
# ```bash
# for file in dicom/head/*.dcm results/*/*_seg.dcm results/*/*_sr.dcm; do
#     curl --silent --fail --data-binary "@$file" http://localhost:8042/instances > /dev/null
# done
# ```
#
# With DICOMweb, scans are read from a server without files in between, and objects go back by
# `dicomweb_client.DICOMwebClient(url).store_instances([...])`:
#
# ```bash
# python -m monai_zsad screen "http://localhost:8042/dicom-web/series?Modality=MR&StudyDate=20000101" -o results
# ```
#
# **[3D Slicer](https://www.slicer.org)**: load the series by its DICOM module; the extension *QuantitativeReporting*
# opens SEG and SR. Without DICOM, `python -m monai_zsad slicer results/<case>` writes a scene to drag into Slicer, with
# the heat map in colour and, screened with `--set seg_nrrd=true`, the candidates as segments.
#
# **[MONAI Label](https://monai.io/label.html)** offers the candidates inside of Slicer and OHIF, to be corrected by
# hand, and brings studies in the order of suspicion. It needs an environment of its own, see
# `monai_zsad/integrations/monailabel/README.md`:
#
# ```bash
# label-env/bin/python -m monai_zsad label-server --studies FOLDER
# ```
#
# Whatever reads the objects: check once with a phantom such as this one, whose truth is known, that they lie where they
# should.

# %%
distance = np.linalg.norm(np.subtract(findings["candidates"][0]["peak_ras_mm"], head.center_mm))
print(f"first candidate: {distance:.0f} mm from the centre of the phantom's lesion (radius {head.radius_mm:.0f} mm)")

# %% [markdown]
# ## Cleanup

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
