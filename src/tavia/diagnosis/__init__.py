"""Evidence to verdict. Pure; health decides by it."""
