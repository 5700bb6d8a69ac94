"""The reference training step: written as in the original code, in plain float32, to compare the fast step with.

It is easy to read and slow. It computes every perceptual feature and the discriminator's pass on real images once per
teacher, builds autograd graphs that are not used, and evaluates one energy at a time. It shares with the fast step only
the networks, the settings, CycleGAN's image pool, the power iteration, and the terms of VID and CRD, which have only
one form. All other arithmetic is written independently.
"""
