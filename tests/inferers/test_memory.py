"""The peak of memory that the inferer's docstring states, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys
import torch
from monai_zsad.inferers import VolumeSliceInferer

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

def network(slices):
    result = slices.new_empty(len(slices), 2, *slices.shape[2:])
    result[:, :1] = slices
    result[:, 1] = slices.amax((1, 2, 3))[:, None, None]
    return result

torch.set_num_threads(1)
planes = sys.argv[1].split(",") if sys.argv[1] else None
inferer = VolumeSliceInferer(planes=planes)
with torch.no_grad():
    inferer(torch.rand(1, 1, 32, 32, 8), network)
    before = status("VmRSS")
    volume = torch.empty(1, 1, 512, 512, 300).uniform_(0.1, 1)
    inferer(volume, network)
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which Linux has")
@pytest.mark.parametrize(("planes", "stated"), [("", 928), ("coronal", 928), ("axial,coronal,sagittal", 1228)])
def test_peak_for_a_large_ct_is_as_stated(planes, stated):
    done = subprocess.run([sys.executable, "-c", MEASURE, planes], capture_output=True, text=True, check=True)
    peak = float(done.stdout)
    print(f"{planes or 'native'}: peak {peak:.0f} MiB over the base, stated {stated}")
    assert 900 < peak < stated + 40
