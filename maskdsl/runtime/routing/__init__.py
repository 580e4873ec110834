"""Routes of a call: the operators that select before attention, and the state that decoding keeps for them."""
