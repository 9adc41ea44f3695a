"""PIGUIQA: underwater quality, guided by the physics of how light gets through water."""
