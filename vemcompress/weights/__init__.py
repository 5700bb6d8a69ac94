"""Reading and writing weight files: safe reading of foreign files, published layouts, the Hub, this project's own
format.

No other room opens foreign files. Nothing is imported here, so that `weights.hub` can be used without loading torch.
"""
