"""Examples for language models: a prompt, what is a good response to it, and what is a worse one."""
