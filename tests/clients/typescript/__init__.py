"""The TypeScript client, as its users get it."""
