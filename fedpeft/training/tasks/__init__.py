"""The tasks, a file each: label names, linear head, causal language model, instructions, images, one's own loss.

What they share: `text` (token ids and labels), `language` (next-token loss, perplexity), `chat` (templates, and where
an answer begins), `generation` (greedy answers), `answers` (exact match, ROUGE-L).
"""
