"""Foreign ONNX graphs: checked before ONNX Runtime opens them, interpreted by their signature, and run.

There is no torch here, so that a device that runs a student does not need it; only `teacher`, and `counting` for it,
use torch.
"""
