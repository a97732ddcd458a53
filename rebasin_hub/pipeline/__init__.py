"""The only place where reading, computing and writing meet: one module for each command."""
