"""The nouns: frozen, made of integers and text, no behaviour beyond arithmetic on themselves."""
