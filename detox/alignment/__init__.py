"""Alignment with RL: rewards, and a PPO for encoder-decoders and causal models."""
