"""Export of networks to files for devices, and measurement of the files.

`exporting` writes the files, one module in `formats` for each format, and compares each with PyTorch. `rewrites` and
`rules` make graphs faster, the `int8_*` modules quantise them, `latency` measures them, and `goals` predicts latency
and file size. `browser` makes the web demo. Reading .onnx files is the job of `weights.graphs`.
"""
