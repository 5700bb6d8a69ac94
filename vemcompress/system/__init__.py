"""Utilities that every room may use: devices, memory, files, events, distributed processes, base settings, plugins.

Nothing here knows networks, images or runs.
"""
