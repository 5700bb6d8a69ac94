"""The only rooms that open foreign files: safe reading, published layouts, the Hub, our own artifact.

Nothing is imported here, so that `weights.hub` stays usable without loading torch.
"""
