"""Self-supervised pre-training of vision encoders on scene images, from regions, in JAX."""
