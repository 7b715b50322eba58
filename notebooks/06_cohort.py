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
# # A cohort: many scans, ranked by suspicion
#
# One run over a folder of scans. Each scan gets its map, candidates and report, and a worklist has all scans, the most
# suspicious first. In research, this helps to decide which of many scans to look at first.
#
# **For research only. Not a medical device, not for clinical use.** A rank is not a diagnosis. Scans with the kind of
# lesion that the model was trained for come first, but also scans with artefacts, or with normal anatomy that looks
# similar to the model. A scan at the end of the list is not necessarily normal.

# %% [markdown]
# ## Setup

# %%
# !python -c "import monai_zsad" || pip install -q git+https://github.com/monai-zsad/monai-zsad.git

# %%
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from monai.transforms import LoadImage

from monai_zsad import screen
from monai_zsad.metrics import auroc, bootstrap_interval
from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, grey_range, make_view, slice_label

plt.rcParams["figure.dpi"] = 120

root = Path(os.environ.get("MONAI_DATA_DIRECTORY") or tempfile.mkdtemp()).resolve() / "cohort"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## The cohort
#
# Synthetic heads that look like FLAIR images. Some have a lesion, which becomes fainter from case to case; some have
# none. One file is damaged.

# %% tags=["parameters"]
shape = (96, 96, 16)  # voxels along X, Y, Z
spacing = (2.4, 2.4, 8.0)  # mm
visibility = (1.0, 0.7, 0.45, 0.25, 0.12)  # of the lesions: 1 is fully visible
normals = 4

# %%
truth = {}
count = len(visibility) + normals
for number in range(count):
    plain = phantom_head(shape, spacing, seed=600 + number, lesion=False)
    head = phantom_head(shape, spacing, seed=600 + number)
    share = visibility[number] if number < len(visibility) else 0.0
    faded = head._replace(image=plain.image + share * (head.image - plain.image))
    name = f"case{(7 * number) % count:02d}"  # tells nothing of the truth
    truth[name] = share
    write_phantom(faded, f"cohort/{name}.nii.gz", lesion=f"truth/{name}.nii.gz" if share else None)
whole = Path("cohort/case00.nii.gz").read_bytes()
Path("cohort/damaged.nii.gz").write_bytes(whole[: len(whole) // 2])
print(", ".join(sorted(file.name for file in Path("cohort").iterdir())))

# %% [markdown]
# ## One run
#
# ```bash
# python -m monai_zsad screen cohort -o results --anatomy brain --modality FLAIR
# ```
#
# A scan that cannot be read without guessing is refused, with a reason. The other scans are screened. `resume=True`
# continues an interrupted run.

# %%
results = screen("cohort", "results", anatomy="brain", modality="FLAIR", progress=False)
for case in results.failed:
    print(f"{case.case}: {case.status}")

# %% [markdown]
# ## The ranking
#
# The volume score is the mean of the highest slice scores, so it does not depend on a single slice. The colour shows
# the truth, which is known for synthetic scans.

# %%
ranked = sorted((case for case in results.cases.values() if case.is_done), key=lambda case: -case.score)
names = [case.case for case in ranked]
scores = np.array([case.score for case in ranked])
labels = np.array([truth[name] > 0 for name in names])

figure, axes = plt.subplots(figsize=(7.4, 4))
axes.barh(names, scores, color=np.where(labels, "tab:red", "0.7"))
for row, name in enumerate(names):
    words = f"lesion, visibility {truth[name]:.2f}" if truth[name] else "no lesion"
    axes.text(0.01, row, words, va="center", color="white" if truth[name] else "black")
axes.set(xlabel="volume score (no unit)", xlim=(0, 1), title="Most suspicious on top; red: has a lesion")
axes.invert_yaxis()
axes.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.show()

# %% [markdown]
# How good is the order? The area under the ROC curve (AUROC) is the probability that a scan with a lesion is ranked
# before a scan without one. With so few cases, look at the interval. If all cases with a lesion are ranked before all
# others, this also holds for every bootstrap sample, and the interval is too narrow.

# %%
found = bootstrap_interval(auroc, scores, labels, strata=labels, resamples=500)
print(f"AUROC {found.value:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}, {len(ranked)} cases")

# %% [markdown]
# ## The most suspicious slice of each case
#
# In the order of the ranking: the slice through the peak of the first candidate. Candidates are outlined in yellow, the
# true lesion in cyan if it is in the slice. In an image, you recognise a false alarm faster than in a table. A false
# alarm can also give a case a high rank although its lesion was missed.

# %%
load = LoadImage(image_only=True, ensure_channel_first=True)
columns = 3
rows = -(-len(ranked) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 3.6 * rows), facecolor="#101216", squeeze=False)
for place in axes.flat:
    place.set_axis_off()
for place, case in zip(axes.flat, ranked, strict=False):
    view = make_view(case.image, case.labels, None, "axial", case.labels)
    top = next(iter(case.findings["candidates"]), None)
    index = view.index_of(top["peak_ras_mm"]) if top else shape[2] // 2
    draw_slice(place, view, index, grey_range(view.scan)[0])
    draw_contours(place, view, index, dict.fromkeys(range(1, 99), "yellow"), numbers=False)
    if truth[case.case]:
        mask = load(f"truth/{case.case}.nii.gz")
        draw_contours(place, make_view(case.image, mask, None, "axial", mask), index, {1: "cyan"}, numbers=False)
    peak = f"peak {top['peak_score']:.2f}" if top else "no candidate"
    place.set_title(f"{case.case}, {peak}\n{slice_label(view, index)}", color="white", fontsize=10)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The scans, judged by one another
#
# The bundle `musc` needs no prompts and no training. A region is suspicious if nothing like it is in the other scans,
# at about the same height in the body. What many of the scans have in common looks normal, lesion or not.
#
# ```bash
# python -m monai_zsad screen cohort -o mutual --bundle musc
# ```

# %%
mutual = screen("cohort", "mutual", bundle="musc", report="none", progress=False)
own = np.array([mutual.cases[name].score for name in names])

figure, axes = plt.subplots(figsize=(5.4, 4))
axes.scatter(scores, own, s=60, c=np.where(labels, "tab:red", "0.6"))
for name, label, *place in zip(names, labels, scores, own, strict=True):
    axes.annotate(name if label else "", place, (7, 5), textcoords="offset points")
axes.margins(0.2)
axes.set(xlabel="volume score with prompts", ylabel="volume score by the other scans", title="Red: has a lesion")
plt.show()
print(f"AUROC with prompts {auroc(scores, labels):.2f}, by the other scans {auroc(own, labels):.2f}")

# %% [markdown]
# The two scores have different units: a probability, and half a distance between features. Only the orders can be
# compared. The guide [Scans compared with one another](../docs/guides/compare_scans.md) describes the method, its
# limits, and how to compare with normal scans alone (`reference="normals"`).

# %% [markdown]
# ## The worklist and the tables
#
# Open `results/index.html` in a browser: it lists the cases, the most suspicious first, with a small image and a link
# to each report. The report has a viewer, and loads nothing from other places. `findings.json` and `findings.csv` in
# the folder of each case contain the same for programs. `python -m monai_zsad report results` writes the worklist
# again, after cases were added or removed.

# %%
results.table

# %%
first = ranked[0]
for file in sorted((results.folder / first.case).iterdir()):
    print(f"{file.stat().st_size / 1000:9.1f} kB  {first.case}/{file.name}")

# %% [markdown]
# ## What to do with a ranking
#
# - Look at the first cases, and at some from the end. Look first without the map, because it influences the reader.
# - Compare the scores with those of normal scans: `--calibration`, see `04_own_data`.
# - Keep `manifest.json` of each case: with its hashes of scan, model and settings, a result can be reproduced.
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
