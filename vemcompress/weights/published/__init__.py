"""The key layouts that networks were published in, one family a file; `weights.recognise` has the list."""
