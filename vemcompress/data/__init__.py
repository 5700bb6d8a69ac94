"""Data loading: from folders of images (or latent vectors) to batches of tensors; unreadable images are skipped."""
