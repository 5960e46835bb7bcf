"""Losses of generator and discriminator.

pixels.py          pixel, frequency and grid losses: add one here, to `recipe.Loss` and to `Trainer.terms`
perceptual.py      distance in a classifier's features; backbones.py: the classifiers, their layers and weights
discriminators.py  the discriminators: add a class and a row of `DISCRIMINATORS`
adversarial.py     `discriminator_loss` and `generator_loss` of each GAN: add a class and a row of `adversarial_loss`
"""
