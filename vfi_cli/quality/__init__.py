"""Measures of quality: of single pictures, and of frames in motion."""
