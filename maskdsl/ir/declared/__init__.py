"""What a pattern declares of its tensors: tokens in spaces and sequences, and inputs. Relations are not here."""
