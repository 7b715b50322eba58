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
# # A cohort: many scans, ranked by suspicion
#
# One run over a folder of scans: each scan gets its map, candidates and report. An index lists all scans, the most
# suspicious first. In research, this helps to decide which of many scans to look at first.
#
# **For research only. Not a medical device, not for clinical use.** A rank is not a diagnosis. Scans with the kind of
# lesion that the model was trained for come first, but also scans with artefacts or normal anatomy that look similar
# to the model. A scan at the end of the list is not necessarily normal.

# %% [markdown]
# ## Setup environment

# %%
# !python -c "import monai_zsad" || pip install -q -e ..
# %matplotlib inline

# %% [markdown]
# ## Setup imports

# %%
import base64
import csv
import io
import json
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from monai.bundle import ConfigWorkflow
from monai.config import print_config
from monai.transforms import LoadImage

from monai_zsad.metrics import auroc, bootstrap_interval
from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.workflow.bundles import find_bundle
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, grey_range, make_view, slice_label

logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
logging.getLogger("monai_zsad").setLevel(logging.CRITICAL)  # a refused scan is told by the run's table
plt.rcParams["figure.dpi"] = 80
print_config()

# %% [markdown]
# ## Setup a folder

# %%
directory = os.environ.get("MONAI_DATA_DIRECTORY")
root = Path(directory or tempfile.mkdtemp()).resolve() / "cohort"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## The cohort
#
# FLAIR-like phantoms of different heads. Some have a lesion, which becomes fainter from case to case; some have none.
# One file is damaged, as in every real cohort.

# %% tags=["parameters"]
shape = (96, 96, 16)  # voxels along X, Y, Z
spacing = (2.4, 2.4, 8.0)  # mm
visibility = (1.0, 0.7, 0.45, 0.25, 0.12)  # of the lesions: 1 as the phantom has it
normals = 4

# %%
truth = {}
for number in range(len(visibility) + normals):
    seed = 600 + number
    plain = phantom_head(shape, spacing, seed=seed, lesion=False)
    share = visibility[number] if number < len(visibility) else 0.0
    if share:
        head = phantom_head(shape, spacing, seed=seed)
        head = head._replace(image=plain.image + share * (head.image - plain.image))
    else:
        head = plain
    # The names say nothing of the truth.
    name = f"case{(7 * number) % (len(visibility) + normals):02d}"
    truth[name] = share
    write_phantom(head, f"cohort/{name}.nii.gz", lesion=f"truth/{name}.nii.gz" if share else None)
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
# A scan that cannot be read without guessing is refused with a reason. The other scans are screened, and the exit code
# is 1. `--resume` continues an interrupted run.

# %%
bundle = find_bundle("tiny_screening")
workflow = ConfigWorkflow(
    config_file=str(bundle / "configs" / "inference.yaml"),
    workflow_type="infer",
    logging_file=False,
    bundle_root=str(bundle),
    dataset_dir="cohort",
    output_dir="results",
    overwrite=True,
    progress=False,
    anatomy="brain",
    modality="FLAIR",
)
workflow.initialize()
try:
    workflow.run()
except SystemExit as end:
    print(f"exit code {end.code}")
finally:
    workflow.finalize()

# %% [markdown]
# ## The ranking
#
# `summary.json` contains the volume score of each case, or the reason of its failure. The volume score is the mean of
# the highest slice scores, so it does not depend on a single slice. The colour shows the truth, which is known for
# phantoms.

# %%
summary = json.loads(Path("results/summary.json").read_text())
done = sorted((c for c in summary["cases"] if c["status"] == "done"), key=lambda c: c["volume_score"])
failed = [c for c in summary["cases"] if c["status"] != "done"]

figure, axes = plt.subplots(figsize=(7.4, 3.4))
colours = ["tab:red" if truth[c["case"]] else "0.6" for c in done]
axes.barh([c["case"] for c in done], [c["volume_score"] for c in done], color=colours)
for row, c in enumerate(done):
    share = truth[c["case"]]
    words = f"lesion, visibility {share:.2f}" if share else "no lesion"
    axes.text(0.01, row, words, va="center", fontsize=8, color="white" if share else "black")
axes.set(xlabel="volume score (no unit)", xlim=(0, 1), title="Most suspicious on top; red: has a lesion")
axes.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.show()
for c in failed:
    print(f"not screened, and thus in no rank: {c['case']}")

# %% [markdown]
# How good is the order? The area under the ROC curve (AUROC) is the probability that a scan with a lesion is ranked
# before a scan without one. With so few cases, look at the interval. There is one exception: if all cases with a lesion
# are ranked before all others, this also holds for every bootstrap sample, and the interval is too narrow.

# %%
scores = np.array([c["volume_score"] for c in done])
labels = np.array([truth[c["case"]] > 0 for c in done])
found = bootstrap_interval(auroc, scores, labels, strata=labels, resamples=500)
print(f"AUROC {found.value:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}, {len(done)} cases")

# %% [markdown]
# ## The most suspicious slice of each case
#
# For each case, in the order of suspicion: the slice through the peak of the first candidate. Candidates are outlined
# in yellow, the true lesion in cyan if it is in the slice. In an image, you recognise a false alarm faster than in a
# table. A false alarm can also give a case a high rank although its lesion was missed.

# %%
load = LoadImage(image_only=True, ensure_channel_first=True)
windows = {}
columns = 5
ranked = done[::-1]
rows = -(-len(ranked) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(2.25 * columns, 2.8 * rows), facecolor="#101216", squeeze=False)
for place in axes.flat:
    place.set_axis_off()
for place, c in zip(axes.flat, ranked, strict=False):
    name = c["case"]
    image = load(f"cohort/{name}.nii.gz")
    findings = json.loads(Path(f"results/{name}/{name}_findings.json").read_text())
    candidates = load(f"results/{name}/{name}_candidates.nii.gz")
    view = make_view(image, candidates, None, "axial", candidates)
    tops = findings["candidates"][:1]
    index = view.index_of(tops[0]["peak_ras_mm"]) if tops else shape[2] // 2
    grey, _ = grey_range(view.scan)
    windows[name] = f"window: grey {grey[0]:.0f} to {grey[1]:.0f}"
    draw_slice(place, view, index, grey)
    draw_contours(place, view, index, dict.fromkeys(range(1, 99), "yellow"), numbers=False)
    if truth[name]:
        mask = load(f"truth/{name}.nii.gz")
        draw_contours(place, make_view(image, mask, None, "axial", mask), index, {1: "cyan"}, numbers=False)
    peak = f"peak {tops[0]['peak_score']:.2f}" if tops else "no candidate"
    place.set_title(f"{name}   {peak}\n{slice_label(view, index)}\n{windows[name]}", color="white", fontsize=8)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The index and a report
#
# Open `results/index.html` in a browser: it lists the cases, the most suspicious first, with figures and links. Each
# report is one page that loads nothing from other places. `_findings.json` and `_findings.csv` contain the same for
# programs. `python -m monai_zsad report results` writes the index again, after cases were added or removed.

# %%
index_page = Path("results/index.html").read_text()
order = re.findall(r"(case\d+)_report\.html", index_page)
print("index.html, first to last:", ", ".join(dict.fromkeys(order)))

first = ranked[0]["case"]
with Path(f"results/{first}/{first}_findings.csv").open() as stream:
    table = list(csv.DictReader(stream))
print(f"\n{first}: {len(table)} candidates of {len(table[0]) if table else 0} columns; the first three:")
for row in table[:3]:
    place = ", ".join(f"{float(row[f'peak_ras_{axis}_mm']):.0f}" for axis in "xyz")
    peak, millilitres = float(row["peak_score"]), float(row["volume_mm3"]) / 1000
    print(f"  {row['id']}: peak {peak:.2f} at {place} mm (RAS), {millilitres:.2f} ml")

# %% [markdown]
# The first figure of the report: the scan with outlines, and the map.

# %%
page = Path(f"results/{first}/{first}_report.html").read_text()
pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
print(f"{first}_report.html: {len(page) / 1000:.0f} kB, {len(pictures)} pictures")
figure, axes = plt.subplots(figsize=(7.5, 3.9), facecolor="#101216")
axes.imshow(plt.imread(io.BytesIO(base64.b64decode(pictures[0]))))
axes.set_axis_off()
axes.set_title(f"{first}, from its report   {windows[first]}", color="white", fontsize=9)
figure.tight_layout(pad=0.3)
plt.show()

# %% [markdown]
# ## What to do with a ranking
#
# - Look at the first cases, and at some from the end, first without the map: the map influences the reader.
# - Compare the scores with those of normal scans: `--calibration`, see `04_own_data`.
# - Keep `_manifest.json` of each case: its hashes of scan, model and settings allow you to reproduce a result.
#
# ## Cleanup

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
