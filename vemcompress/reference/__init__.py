"""The training step as the original code does it, in plain float32: what the fast one is compared with.

Easy to read and slow: every perceptual feature once per teacher, the discriminator's real pass once per teacher, graphs
that nobody uses, one energy at a time. Networks, settings, CycleGAN's image pool, the power iteration and the terms of
VID and CRD, of which there is one form, are the fast step's own; all other arithmetic is written again.
"""
