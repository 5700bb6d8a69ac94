"""ONNX files that were checked against PyTorch, their use without PyTorch, and measured latency.

`session` and `pixels` need no torch, so that a device can run a student with ONNX Runtime alone.
"""
