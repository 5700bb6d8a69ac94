"""Pure functions of tensors that read like the paper's equations: the teacher first, no weight inside, float32."""
