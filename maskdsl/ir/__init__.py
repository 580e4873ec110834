"""What a bound pattern means."""
