"""Dense evaluation by C++ kernels of our own: vectors run over pixels, so no channel is filled up.

A dense plan goes through these modules in turn:

========================= ====================================================================================
:mod:`.chains`            which convolutions are made together
:mod:`.lowering`          the plan as few, larger items (:mod:`.items`), poolings and differences among them as
                          operations on lines of pixels (:mod:`.line_builder`)
:mod:`.program`           where each item's rows lie and when they are made; all of it as numbers
:mod:`.winograd`          matrices for convolutions with fewer products
:mod:`.library`           the compiled library (``source/``, :mod:`.build`) runs the numbers
========================= ====================================================================================

A program is computed in strips of columns from top to bottom, a band of rows at a time, each map in a ring of rows;
so memory depends on neither the tile's height nor, beyond a strip, its width.
"""
