"""What generator and discriminator are trained by."""
