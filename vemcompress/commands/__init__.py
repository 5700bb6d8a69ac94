"""What each command does, which is also the library's face. One file a command; `cli/` parses and renders."""
