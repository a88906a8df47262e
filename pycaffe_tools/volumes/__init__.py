"""Stacks in and out: TIFF, HDF5, OME-Zarr, folders of slices; one slice in memory at a time."""
