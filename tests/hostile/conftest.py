"""The tiny models of the conversion's tests."""

from inference.conftest import save_model

__all__ = ["save_model"]
