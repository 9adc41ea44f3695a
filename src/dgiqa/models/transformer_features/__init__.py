"""Learning Transformer Features for IQA: one network for pictures alone and for pictures with their originals."""
