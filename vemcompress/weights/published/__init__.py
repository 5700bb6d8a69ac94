"""Tensor-name layouts of published networks, one family per file; `weights.recognise` lists them."""
