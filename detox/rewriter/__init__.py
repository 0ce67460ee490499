"""Rewriting toxic texts: curriculum training, losses, decoding, reranking."""
