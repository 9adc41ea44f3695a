"""LoDa: a frozen vision transformer that is told of local distortions by a frozen convolutional network."""
