"""ONNX graphs of others: checked before ONNX Runtime opens them, understood by their signature, and run.

No torch here, so that a device that runs a student needs none; only `teacher`, and `counting` for it, have it.
"""
