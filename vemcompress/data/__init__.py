"""Folders of images in, batches of tensors out; decoding that survives bad images."""
