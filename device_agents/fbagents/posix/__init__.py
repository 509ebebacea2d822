"""Files and a process on another machine, over any shell."""
