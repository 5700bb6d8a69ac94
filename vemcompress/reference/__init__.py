"""The training step as the original code does it, in plain float32: what the fast one is compared with.

Easy to read and slow: every perceptual feature once per teacher, the discriminator's real pass once per teacher, graphs
that nobody uses, one energy at a time. It shares the fast step's networks and settings, and no line of its arithmetic.
"""
