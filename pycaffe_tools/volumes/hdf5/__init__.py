"""HDF5 volumes: read and written slice by slice."""
