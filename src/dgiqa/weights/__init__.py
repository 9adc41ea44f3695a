"""A card's weights: where they lie and come from (``fetch``, ``https``), and how they are read (``files``)."""
