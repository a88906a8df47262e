"""Writing volumes slice by slice: TIFF for Fiji, HDF5 for ilastik, CREMI and plant-seg, OME-Zarr.

    with create_volume("p.tif", (689, 2301, 3069), "float32", PixelSize(5, 5, 5)) as writer:
        for z in range(689):
            writer.write(z, probabilities)       # y by x

The file gets its name when the block has succeeded; before that it is a
temporary one beside it, and after an error there is nothing.  Slices go
straight to the disk, so memory does not depend on how many there are.
"""
