"""How good is an encoder? Functions of arrays."""
