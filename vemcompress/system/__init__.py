"""Devices, the processes that torchrun started, and the base of all settings."""
