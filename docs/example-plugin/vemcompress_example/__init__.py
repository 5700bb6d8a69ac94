"""An example of a plugin for vemcompress: a method in a file, and its recipe."""
