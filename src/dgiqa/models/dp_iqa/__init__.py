"""DP-IQA: the prior of a diffusion model judges quality, and a convolutional network learns it from there."""
