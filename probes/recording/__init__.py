"""Recording unmodified pipelines: taps, proof of branches, noise levels, traces on disk."""
