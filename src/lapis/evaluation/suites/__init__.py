"""Suites of benchmarks, one file each: `BENCHMARKS`, a line each."""
