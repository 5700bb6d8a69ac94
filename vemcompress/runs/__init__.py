"""A run on disk: its folder and lock, checkpoints, logs, pictures, what it gives, the best network, a cached teacher.

What belongs here knows files, and nothing of how a network learns.
"""
