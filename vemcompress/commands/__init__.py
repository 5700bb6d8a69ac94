"""What each command does. These functions are also the library's API. One file per command; `cli/` parses the options
and shows the results."""
