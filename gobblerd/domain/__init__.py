"""Values and rules. Opens no file, imports nothing but the standard library."""
