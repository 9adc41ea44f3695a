"""From a source to what a network sees.

``decode`` makes an upright 8-bit sRGB :class:`dgiqa.types.Image` of one source,
``resize`` holds every resize kernel by name, ``views`` cuts a recipe's views and their depth.
``sniff`` (content types) and ``color`` (any pixel mode to sRGB) serve the decoder.
"""
