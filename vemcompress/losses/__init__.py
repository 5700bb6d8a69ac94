"""Loss functions that follow the papers' equations: pure functions of tensors, teacher first, no weights, float32
inside.
"""
