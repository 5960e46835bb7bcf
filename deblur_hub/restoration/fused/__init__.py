"""Networks folded and fused for restoring on a CPU: the same functions, faster, without gradients."""
