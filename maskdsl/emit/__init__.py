"""Mask to plan, and plan with skeletons to the source text of modules. Nothing is run here."""
