"""A run on disk: folder and lock, checkpoints, logs, sample sheets, the best network, cached teacher outputs, the
report.

Modules here work on files. How a network is trained belongs in `training`.
"""
