"""ONNX files that were checked against PyTorch, and measured latency. What opens .onnx files is in `weights.graphs`."""
