"""Benchmark sets: facts and sources, reading and checking of their folders, training lists, and image transforms."""

from __future__ import annotations

from monai_zsad.data.benchmarks.check import BenchmarkCheck, check_benchmark
from monai_zsad.data.benchmarks.readers import read_benchmark
from monai_zsad.data.benchmarks.registry import Benchmark, get_benchmark, known_benchmarks

__all__ = ["Benchmark", "BenchmarkCheck", "check_benchmark", "get_benchmark", "known_benchmarks", "read_benchmark"]
