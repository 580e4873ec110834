"""Routes of a call: what they find before attention, and what is kept of cached keys for them."""
