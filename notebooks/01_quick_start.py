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
# # Quick start: a scan in, heat map and candidates out
#
# A scan is screened for *anything abnormal* without a training set of its disease: each pixel of its slices is
# compared with prompts for normal and for abnormal. The output is a map on the grid of the scan, a list of lesion
# candidates and a report.
#
# **For research only. Not a medical device, not for clinical use.** The included model is small and was trained on
# synthetic lesions only. Expect false alarms in normal anatomy; small or dark lesions may be missed. Its card,
# `bundles/tiny_screening/docs/README.md`, shows its metrics on real scans, compared with simple baselines: read it
# before you use the model. The scan here is a phantom with a clear, bright lesion. This easy case shows how the
# software works, not how good the model is.
#
# Nothing is downloaded. The notebook takes one or two minutes on a CPU.

# %% [markdown]
# ## Setup environment

# %%
# !python -c "import monai_zsad" || pip install -q -e ..
# For the interactive viewer at the end (optional): pip install ipyniivue
# %matplotlib inline

# %% [markdown]
# ## Setup imports

# %%
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
from IPython.display import display
from monai.bundle import ConfigWorkflow
from monai.config import print_config
from monai.transforms import LoadImage

from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.workflow.bundles import find_bundle
from monai_zsad.writers import comparison_figure
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, grey_range, make_view, map_range, slice_label

logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
plt.rcParams["figure.dpi"] = 80
print_config()

# %% [markdown]
# ## Setup a folder
#
# Results are kept in the folder that `MONAI_DATA_DIRECTORY` names. Without it, a temporary folder is used and removed
# at the end. All paths below are relative to this folder.

# %%
directory = os.environ.get("MONAI_DATA_DIRECTORY")
root = Path(directory or tempfile.mkdtemp()).resolve() / "quick_start"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## The scan
#
# You can use any NIfTI, NRRD or MetaImage file, a folder with a DICOM series, or a folder of many scans: replace `scan`
# by its path to try your own. Here, the scan is a phantom, so the true lesion is known: a synthetic head in FLAIR
# contrast, with one bright lesion in the white matter.

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3

# %%
head = phantom_head(shape, spacing, seed=seed, contrast="flair")
scan = write_phantom(head, "scan/head.nii.gz", lesion="truth/lesion.nii.gz")
x, y, z = head.center_mm
print(f"{scan}: {head.image.shape} voxels of {spacing} mm, a {head.lesion_kind} lesion")
print(f"centre of the lesion {x:.0f}, {y:.0f}, {z:.0f} mm (RAS), radius {head.radius_mm:.0f} mm")

# %% [markdown]
# Slices are shown as a radiologist sees them: the patient's right side is on the left. The letters mark right (R), left
# (L), anterior (A) and posterior (P). The title shows the grey range in the units of the scan.

# %%
image = LoadImage(image_only=True, ensure_channel_first=True)("scan/head.nii.gz")
lesion = LoadImage(image_only=True, ensure_channel_first=True)("truth/lesion.nii.gz")
view = make_view(image, image, None, "axial", lesion)
grey, _ = grey_range(view.scan)


def contact_sheet(view, indices, grey, heat_range=None, colours=None, title=""):
    """Slices side by side, each with its number and position, outlined where the view has labels."""
    figure, axes = plt.subplots(1, len(indices), figsize=(2.5 * len(indices), 3.1), facecolor="#101216")
    for place, index in zip(axes, indices, strict=True):
        draw_slice(place, view, index, grey, heat_range)
        draw_contours(place, view, index, colours or {1: "cyan"}, numbers=False)
        place.set_title(slice_label(view, index), color="white", fontsize=9)
    figure.suptitle(f"{title}   window: grey {grey[0]:.0f} to {grey[1]:.0f}", color="white", fontsize=10)
    figure.tight_layout()
    return figure


center = view.index_of(head.center_mm)
step = max(1, round(22 / spacing[2]))
indices = [i for i in range(center - 2 * step, center + 2 * step + 1, step) if 0 <= i < shape[2]]
contact_sheet(view, indices, grey, title="Phantom, FLAIR-like; the true lesion in cyan")
plt.show()

# %% [markdown]
# ## Screening
#
# The included model is a MONAI bundle. Its `inference.yaml` describes all steps from loading to the report, and MONAI's
# `ConfigWorkflow` runs it. The command line does the same:
#
# ```bash
# python -m monai_zsad screen scan/head.nii.gz -o results --anatomy brain --modality FLAIR
# ```
#
# `anatomy` and `modality` select the prompts. For DICOM scans, the modality is read from the header.

# %%
bundle = find_bundle("tiny_screening")
workflow = ConfigWorkflow(
    config_file=str(bundle / "configs" / "inference.yaml"),
    workflow_type="infer",
    logging_file=False,
    bundle_root=str(bundle),
    dataset_dir=str(scan),
    output_dir="results",
    overwrite=True,
    progress=False,
    anatomy="brain",
    modality="FLAIR",
)
workflow.initialize()
workflow.run()
workflow.finalize()

for file in sorted(Path("results").rglob("*.*")):
    print(f"{file.stat().st_size / 1000:8.1f} kB  {file}")

# %% [markdown]
# ## The candidates
#
# A candidate is a connected region in which the map is above a threshold (`candidate_threshold`, 0.5 by default). The
# most suspicious candidate comes first. `_findings.json` contains positions in RAS and LPS, volume, scores and shape.
# Here the true lesion is known: the distance from its centre shows which candidate is correct. The others are false
# alarms.

# %%
findings = json.loads(Path("results/head/head_findings.json").read_text())
print(f"volume score {findings['volume_score']:.2f}, {len(findings['candidates'])} candidates\n")
print("id  peak  volume (ml)  peak at x, y, z (mm, RAS)   from the lesion's centre (mm)")
for found in findings["candidates"][:6]:
    place = found["peak_ras_mm"]
    away = np.linalg.norm(np.subtract(place, head.center_mm))
    where = ", ".join(f"{mm:6.1f}" for mm in place)
    remark = "  <- inside the lesion" if away <= head.radius_mm else ""
    peak, volume = found["peak_score"], found["volume_mm3"] / 1000
    print(f"{found['id']:2d}  {peak:.2f}  {volume:11.2f}  {where:26s} {away:8.0f}{remark}")

# %% [markdown]
# ## The heat map
#
# Map and candidates are on the grid of the scan, so any viewer can overlay them. The values of the map are in [0, 1].
# They are not probabilities of disease. Left: the scan. Right: the map over the scan. The true lesion is outlined in
# cyan, the candidates in white.

# %%
load = LoadImage(image_only=True, ensure_channel_first=True)
heat = load("results/head/head_anomaly.nii.gz")
candidates = load("results/head/head_candidates.nii.gz")

top = findings["candidates"][0]
found_view = make_view(image, heat, None, "axial", candidates)
index = found_view.index_of(top["peak_ras_mm"])
figure = comparison_figure(
    image,
    {"anomaly map": heat},
    index,
    scores={"anomaly map": f"candidate 1, peak {top['peak_score']:.2f}"},
    title=f"most suspicious slice   window: grey {grey[0]:.0f} to {grey[1]:.0f}",
)
figure.set_dpi(80)
draw_contours(figure.axes[0], view, index, {1: "cyan"}, numbers=False)
draw_contours(figure.axes[1], found_view, index, {}, numbers=True)
display(figure)

# %% [markdown]
# ## Slice by slice
#
# `_scores.json` contains a score for each slice: the highest value of its map before refinement and resampling.
# Therefore, a slice with a score above the threshold may have no candidate. A peak outside of the lesion is a false
# alarm: look at the slice before you trust a score.

# %%
scores = json.loads(Path("results/head/head_scores.json").read_text())["slice_scores"]
position = np.array([entry["position_mm"][2] for entry in scores])
value = np.array([entry["score"] for entry in scores])

figure, axes = plt.subplots(figsize=(7, 2.8))
axes.axvspan(z - head.radius_mm, z + head.radius_mm, color="tab:cyan", alpha=0.3, label="true lesion")
axes.plot(position, value, "o-", color="tab:red", markersize=3, label="slice score")
axes.axhline(findings["settings"]["threshold"], color="0.4", linestyle="--", label="candidate threshold")
axes.set(xlabel="position, inferior to superior (mm, RAS)", ylabel="slice score (no unit)", ylim=(0, 1))
axes.legend(loc="upper right", fontsize=8)
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## A viewer
#
# If [ipyniivue](https://github.com/niivue/ipyniivue) is installed, you can rotate and scroll the scan with the map
# here. Otherwise, matplotlib shows three planes through the most suspicious position.


# %%
def viewer(scan_file, map_file, place):
    """Scan and map together: interactive where ipyniivue is installed, else three planes through a place (mm, RAS)."""
    if importlib.util.find_spec("ipyniivue"):
        from ipyniivue import NiiVue

        widget = NiiVue(height=400)
        overlay = {"path": str(map_file), "colormap": "inferno", "opacity": 0.5, "cal_min": 0.3, "cal_max": 1.0}
        widget.load_volumes([{"path": str(scan_file)}, overlay])
        return widget
    figure = plt.figure(figsize=(9.5, 3.4), facecolor="#101216", layout="constrained")
    for column, plane in enumerate(("axial", "coronal", "sagittal"), start=1):
        own = make_view(load(scan_file), load(map_file), None, plane)
        grey, body = grey_range(own.scan)
        limits = map_range(own.heat, body)
        axes = figure.add_subplot(1, 3, column)
        draw_slice(axes, own, own.index_of(place), grey, limits)
        axes.set_title(f"{plane}\n{slice_label(own, own.index_of(place))}", color="white", fontsize=9)
    colours = plt.cm.ScalarMappable(plt.Normalize(*limits), "inferno")
    bar = figure.colorbar(colours, ax=figure.axes, shrink=0.9, pad=0.02)
    bar.set_label("anomaly map (no unit)", color="white")
    bar.ax.tick_params(colors="white")
    figure.suptitle(f"window: grey {grey[0]:.0f} to {grey[1]:.0f}", color="white", fontsize=10)
    plt.close(figure)
    return figure


display(viewer(scan, "results/head/head_anomaly.nii.gz", top["peak_ras_mm"]))

# %% [markdown]
# ## The report, and the next notebooks
#
# `results/head/head_report.html` is one page with figures and a table. It loads nothing from other places.
# `results/index.html` lists all scans of a run. The other notebooks:
#
# - `02_prompts`: how prompts change the map
# - `03_methods`: the other methods side by side
# - `04_own_data`: training, honest evaluation, a threshold
# - `05_dicom`: DICOM input, DICOM SEG output, and programs that read it
# - `06_cohort`: many scans, ranked

# %%
map_image = nibabel.load("results/head/head_anomaly.nii.gz")
assert np.allclose(map_image.affine, nibabel.load(scan).affine)  # the map lies on the scan's grid
print(f"map: {map_image.shape}, {map_image.get_data_dtype()}, values {heat.min():.3f} to {heat.max():.3f}")

# %% [markdown]
# ## Cleanup
#
# Removes the folder if it is temporary.

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
