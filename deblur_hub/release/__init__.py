"""From a trained run to a released model: its measured card and its comparison sheet."""
