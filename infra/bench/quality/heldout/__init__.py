"""A labelled set whose templates and values none of the other sets have seen: a check, nothing is tuned on it."""
