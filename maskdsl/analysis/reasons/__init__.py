"""Why one pair of tokens attends or not, in the words of the pattern's text."""
