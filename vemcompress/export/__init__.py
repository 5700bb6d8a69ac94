"""ONNX files that were checked against PyTorch, their use without PyTorch, and measured latency.

`session`, `latent_session`, `opened`, `sides` and `pixels` need no torch, so that a device can run a student with ONNX
Runtime alone.
"""
