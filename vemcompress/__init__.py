"""vemcompress: compress pretrained GAN generators with information-theoretic distillation (VEM)."""

__version__ = "0.1.0"
