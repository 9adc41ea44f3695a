"""The training steps of the related systems, small: one file a system, each a command of its own."""
