"""What both attention modules have: the facts of one, its calls over pages, and what prepares calls."""
