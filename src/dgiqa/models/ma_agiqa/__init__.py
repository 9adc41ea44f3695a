"""MA-AGIQA: what a picture looks like, and what a large multimodal model thinks of its meaning, weighed by a gate."""
