"""One OME-Zarr that several processes fill at the same time: who does what, what is whole, and the last step."""
