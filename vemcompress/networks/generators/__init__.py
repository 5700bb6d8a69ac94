"""Generators, one architecture a file (paper, A.3)."""
