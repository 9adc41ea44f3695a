"""FiFA: landmarks of a face, learnt with black squares on them that shrink away, and two views that must agree."""
