"""Tune the hyperparameters of deep networks cheaply: train only the last layers, on part of the data, and climb."""
