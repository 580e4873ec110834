"""Whether later tokens can change what earlier queries select, and what they get."""
