"""A card's weights: where they lie and come from (``fetch``, ``https``), how they are read (``files``)."""
