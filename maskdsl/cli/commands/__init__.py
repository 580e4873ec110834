"""What each command does, one module for each. What a command takes is in `cli/app.py`."""
