"""A run on disk: its folder and lock, checkpoints, logs, pictures, the best network, a cached teacher.

What belongs here knows files, and nothing of how a network learns.
"""
