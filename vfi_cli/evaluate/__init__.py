"""Scoring models: on the benchmarks of the papers, and on a clip of one's own."""
