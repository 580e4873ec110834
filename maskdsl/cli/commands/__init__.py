"""What each command does. `cli/app.py` declares their arguments and options."""
