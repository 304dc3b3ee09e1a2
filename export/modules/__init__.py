"""Module definitions: the tokenizer and the dyadic prior."""
