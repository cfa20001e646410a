"""How well promptloom finds templates, beside other methods, on labelled prompts."""
