"""The classics without a reference: how far a picture's local statistics are from those of natural photographs.

``brisque.py``, ``niqe.py`` and ``il_niqe.py`` hold ``measure(picture, parameters)`` of a (H, W, 3) uint8 sRGB array;
``parameters`` is what was fitted, the file that the card names as its weights. All take statistics from :mod:`.local`.
"""
