"""What neither paper has, one remedy a file."""
