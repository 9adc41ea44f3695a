"""DiffV2IQA: a diffusion model restores the picture; how it looks beside its restorations says how good it is."""
