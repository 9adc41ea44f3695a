"""SPIPS: a picture against its original, by three traditional maps and two of deep features."""
