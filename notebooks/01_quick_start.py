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
# # Quick start: screen a scan
#
# A scan goes in; a map of what looks abnormal comes out, with a score and lesion candidates. The scan here is a
# synthetic head with one bright lesion. The model is the small one that comes with the package. Nothing is downloaded.
#
# **For research only. Not a medical device, not for clinical use.** The included model was trained on brain tumours
# and on painted lesions. Expect false alarms, and missed lesions. This easy case shows how the software works, not how
# good the model is.

# %%
# !python -c "import monai_zsad" || pip install -q git+https://github.com/monai-zsad/monai-zsad.git
# %matplotlib inline

# %% tags=["parameters"]
shape = (160, 160, 40)  # voxels of the synthetic scan along X, Y, Z
spacing = (1.4, 1.4, 4.0)  # mm

# %%
from monai_zsad import screen
from monai_zsad.synthesis import phantom_head

head = phantom_head(shape, spacing, seed=3)  # looks like a FLAIR image

result = screen(head.image, affine=head.affine, anatomy="brain", modality="FLAIR")
result.show()

# %% [markdown]
# Scroll through the slices with the mouse wheel. The colours show where the model sees something abnormal. (The stored
# notebook has a still image; run the cell to get the viewer.)
#
# For a scan of yours, give its path: `screen("scan.nii.gz")`. It can be NIfTI, NRRD, MetaImage or a folder with a DICOM
# series. For DICOM, the modality is read from the header. The command line does the same:
#
# ```bash
# python -m monai_zsad screen scan.nii.gz -o results --anatomy brain --modality FLAIR
# ```
#
# ## The result
#
# `score` is the volume score, between 0 and 1. It is not a probability of disease. A candidate is a connected region in
# which the map is above the threshold of 0.5. The most suspicious candidate comes first.

# %%
result

# %%
result.candidates[["id", "peak_score", "volume_mm3", "peak_ras_x_mm", "peak_ras_y_mm", "peak_ras_z_mm"]]

# %% [markdown]
# ## The map
#
# `result.image` and `result.map` are tensors of MONAI (`MetaTensor`) on the grid of the scan. Here we know the true
# lesion: its outline is cyan. The candidates outside of it are false alarms.

# %%
from monai_zsad.writers import comparison_figure
from monai_zsad.writers.figures.drawing import draw_contours, make_view

lesion = make_view(head.image, head.lesion, head.affine, "axial", head.lesion)
index = lesion.index_of(head.center_mm)
figure = comparison_figure(result.image, {"anomaly map": result.map}, index, title="The slice through the lesion")
for axes in figure.axes[:2]:
    draw_contours(axes, lesion, index, {1: "cyan"}, numbers=False)
figure.set_dpi(120)
figure

# %% [markdown]
# ## Keep the results
#
# `save` writes the map, the candidates, a table and a report for the browser.

# %%
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:  # give a folder of yours
    result.save(folder)
    for file in sorted(Path(folder).glob("scan/*")):
        print(f"{file.stat().st_size / 1000:9.1f} kB  {file.relative_to(folder)}")

# %% [markdown]
# ## Go on
#
# - `02_prompts`: other prompts give another map
# - `03_methods`: the published methods side by side
# - `04_own_data`: training, honest evaluation, a threshold
# - `05_dicom`: DICOM input and output
# - `06_cohort`: many scans, ranked

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
