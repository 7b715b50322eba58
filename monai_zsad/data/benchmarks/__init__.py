"""Benchmark sets: what they are, where they are to be had, and how their folders are read and checked."""

from __future__ import annotations

from monai_zsad.data.benchmarks.check import BenchmarkCheck, check_benchmark
from monai_zsad.data.benchmarks.readers import read_benchmark
from monai_zsad.data.benchmarks.registry import Benchmark, get_benchmark, known_benchmarks

__all__ = ["Benchmark", "BenchmarkCheck", "check_benchmark", "get_benchmark", "known_benchmarks", "read_benchmark"]
