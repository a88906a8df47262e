"""Patch databases: which pixels become patches, drawn, balanced, written as HDF5."""
