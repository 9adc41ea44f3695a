"""CONTRIQUE: an encoder that learned without ratings to tell distortions apart, and a linear regression behind it."""
