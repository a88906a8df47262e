"""Volumes in chunks: OME-Zarr, Zarr, N5, precomputed."""
